"""Every key of a configuration, one parser for all training commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from jsonargparse import ArgumentError
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

import presel_lightning.eval.benchmarks.offline  # noqa: F401 - a config may name its classes
from presel_lightning.annotators import Annotator
from presel_lightning.check import Throughput
from presel_lightning.cli.parts import error_message
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.base import BenchmarkTask
from presel_lightning.selectors import Selector


@dataclass
class Stage:
    """What one stage does differently."""

    trainer: dict[str, Any] = field(default_factory=dict)
    """Trainer options."""
    model: dict[str, Any] = field(default_factory=dict)
    """Options of the stage's module: `model.…`, for `features` those of `Embed`."""


@dataclass
class Stages:
    """Overrides by stage."""

    reference: Stage = field(default_factory=Stage)
    """The fit on the reference split."""
    losses: Stage = field(default_factory=Stage)
    """The IRS loop."""
    features: Stage = field(default_factory=Stage)
    """The embedding of the images."""
    final: Stage = field(default_factory=Stage)
    """The fit on the selection, and on the baselines' samples."""


class RecipeCLI(LightningCLI):
    """One parser for every training command, so that a config is valid for all of them."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line.

        Raises:
            UserError: it cannot be; in one line, with what was probably meant.
        """
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            raise UserError(
                error_message(error, parser, args if isinstance(args, list) else [])
            ) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to the recipe rather than to model, data or trainer."""
        parser.set_defaults({"trainer.max_epochs": 1, "trainer.enable_model_summary": False})
        parser.add_subclass_arguments(Selector, "selector", required=False)
        parser.set_defaults({"selector": "presel_lightning.selectors.PreSel"})
        parser.add_subclass_arguments(
            Annotator, "annotator", required=False, help="writes the instructions that are missing"
        )
        parser.add_argument(
            "--price_per_instruction",
            type=float | None,
            default=None,
            help="what an instruction costs, to tell what those that are missing would, and the run",
        )
        parser.add_argument(
            "--price_per_gpu_hour",
            type=float | None,
            default=None,
            help="what an hour of a GPU costs, to tell in the report what the run did",
        )
        parser.add_argument("--stages", type=Stages, default=Stages(), help="overrides by stage")
        parser.add_argument(
            "--baselines",
            type=str,
            nargs="*",
            default=[],
            help="arms beside: full random untrained",
        )
        parser.add_argument(
            "--benchmarks", type=list[BenchmarkTask], default=[], help="what every arm is scored on"
        )
        parser.add_argument(
            "--full_scores",
            type=str | None,
            default=None,
            help="scores of full-data tuning: a benchmark.json, or published:llava665k",
        )
        parser.add_argument("--out", type=str | None, default=None, help="run folder")
        self.add_comparison(parser)
        parser.add_argument(
            "--threads", type=int | None, default=None, help="CPU threads of torch, each process"
        )
        parser.add_argument(
            "--checkpoint_every", type=int, default=100, help="steps between checkpoints of a fit"
        )
        parser.add_argument(
            "--throughput",
            type=Throughput | None,
            default=None,
            help="`check` only: samples a second that GPU-hours are estimated from",
        )
        parser.add_argument(
            "--check_records", type=int, default=2000, help="`check` only: records to tokenise"
        )
        parser.add_argument(
            "--check_images", type=int | None, default=None, help="`check` only: images to look at"
        )
        parser.add_argument(
            "--probe",
            type=Literal["auto"] | bool,
            default="auto",
            help="`check` only: train some steps and measure them; auto: where there is a GPU",
        )
        parser.add_argument(
            "--checkpoint", type=str | None, default=None, help="`evaluate` only: what to score"
        )

    def add_comparison(self, parser: LightningArgumentParser) -> None:
        """Add what `compare` varies."""
        parser.add_argument(
            "--selectors",
            type=str | dict[str, Any],
            nargs="*",
            default=["PreSel", "Random"],
            help="`compare`: names, or {class_path, init_args, label}",
        )
        parser.add_argument(
            "--budgets",
            type=int | float,
            nargs="*",
            default=[],
            help="`compare`: values of data.budget; that one where none is given",
        )
        parser.add_argument(
            "--seeds", type=int, nargs="*", default=[0, 1, 2], help="`compare`: seeds of each cell"
        )
        parser.add_argument(
            "--pools",
            type=str,
            nargs="*",
            default=[],
            help="`compare`: values of data.annotations; that one where none is given",
        )
        parser.add_argument(
            "--equal",
            type=Literal["epochs", "steps"],
            default="epochs",
            help="`compare`: train all cells for the same epochs, or for full data's steps",
        )
        parser.add_argument(
            "--workers", type=int | None, default=None, help="`compare`: fits side by side"
        )
        parser.add_argument(
            "--signals", type=str, nargs="*", default=[], help="`prepare`: what to make"
        )

    def instantiate_classes(self) -> None:
        """Nothing here: each stage gets objects of its own, see `ConfigStageFactory`."""
