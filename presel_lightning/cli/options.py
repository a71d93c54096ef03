"""Every key of a configuration, in one parser for all training commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from docstring_parser import parse_from_object
from jsonargparse import ArgumentError
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

import presel_lightning.eval.benchmarks.offline  # noqa: F401 - a config may name its classes
from presel_lightning.annotators import Annotator
from presel_lightning.check import Throughput
from presel_lightning.cli.nulls import refuse_nulls
from presel_lightning.cli.parts import error_message
from presel_lightning.compare.cells import GridKeys
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.base import BenchmarkTask
from presel_lightning.recipe.plan import RunKeys
from presel_lightning.run.ranges import Count, Fraction, Seed, Workers
from presel_lightning.selectors import Selector


@dataclass
class Stage:
    """Overrides of one stage."""

    trainer: dict[str, Any] = field(default_factory=dict)
    """Trainer options."""
    model: dict[str, Any] = field(default_factory=dict)
    """Options of the stage's module: `model.…`; for `features` those of `Embed`, for `similarity`
    those of `Similarity`."""


@dataclass
class Stages:
    """Overrides by stage."""

    reference: Stage = field(default_factory=Stage)
    """The fit on the reference split."""
    losses: Stage = field(default_factory=Stage)
    """The IRS loop, and other passes in which a model reads instructions."""
    features: Stage = field(default_factory=Stage)
    """The embedding of the images."""
    similarity: Stage = field(default_factory=Stage)
    """The comparison of images with texts, for selectors that need it."""
    final: Stage = field(default_factory=Stage)
    """The fit on the selection, and on the baselines' samples."""


@dataclass(kw_only=True)
class CommandKeys:
    """Keys of a command."""

    out: str | None = None
    """run folder"""
    threads: Workers | None = None
    """CPU threads of torch per process"""
    checkpoint: str | None = None
    """`evaluate` only: checkpoint to score"""
    throughput: Throughput | None = None
    """`check` only: samples per second that GPU-hours are estimated from"""
    check_records: Count = 2000
    """`check` only: records to tokenize"""
    check_images: Count | None = None
    """`check` only: images whose headers are read; all by default"""
    probe: Literal["auto"] | bool = "auto"
    """`check` only: train some steps and measure them; auto: where there is a GPU"""
    against: list[str] = field(default_factory=list)
    """`check` only: benchmarks whose images and questions are looked for in the pool: annotation
    files, folders of images, or `benchmarks` for those configured; listed in leakage.csv of the run
    folder"""
    leakage_cosine: Fraction = 0.95
    """`check --against`: cosine of two features from which on images count as the same"""
    leakage_words: Count = 13
    """`check --against`: words of a shared n-gram of two questions"""
    signals: list[str] = field(default_factory=list)
    """`prepare` only: signals to compute"""
    subsets: Count = 20
    """`validate` only: random subsets that are trained on"""


def add_keys(parser: LightningArgumentParser, keys: type) -> None:
    """Add the fields of a dataclass as keys with their types, defaults and attribute docstrings.

    A list takes several values after one option, `--seeds 0 1 2`, or YAML.
    """
    hints, default = get_type_hints(keys), keys()
    for described in parse_from_object(keys).params:
        name, hint = described.arg_name, hints[described.arg_name]
        several: dict[str, Any] = {"nargs": "*"} if get_origin(hint) is list else {}
        parser.add_argument(
            f"--{name}",
            type=get_args(hint)[0] if several else hint,
            default=getattr(default, name),
            help=" ".join((described.description or "").split()),
            **several,
        )


class RecipeCLI(LightningCLI):
    """One parser for every training command, so that a config is valid for all of them."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line.

        Raises:
            UserError: it is invalid; the message is one line with the nearest valid name.
        """
        try:
            super().parse_arguments(parser, args)
            refuse_nulls(parser, self.config, args if isinstance(args, list) else [])
        except ArgumentError as error:
            raise UserError(
                error_message(error, parser, args if isinstance(args, list) else [])
            ) from error

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the seed."""
        parser.add_argument(
            "--seed_everything", type=Seed, default=0, help="seed of every random draw"
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the keys of the recipe to those of model, data and trainer."""
        parser.set_defaults({"trainer.max_epochs": 1, "trainer.enable_model_summary": False})
        parser.add_subclass_arguments(Selector, "selector", required=False)
        parser.set_defaults({"selector": "presel_lightning.selectors.PreSel"})
        parser.add_subclass_arguments(
            Annotator, "annotator", required=False, help="source of the missing instructions"
        )
        parser.add_argument(
            "--benchmarks", type=list[BenchmarkTask], default=[], help="benchmarks of every arm"
        )
        parser.add_argument("--stages", type=Stages, default=Stages(), help="overrides by stage")
        for keys in (RunKeys, GridKeys, CommandKeys):
            add_keys(parser, keys)

    def instantiate_classes(self) -> None:
        """Instantiate nothing: each stage gets its own objects from `ConfigStageFactory`."""
