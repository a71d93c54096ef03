"""LightningCLI as the recipe's front: parses and checks everything, builds each stage afresh."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import yaml
from filelock import BaseFileLock, FileLock, Timeout
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

from presel_lightning.annotators import Annotator
from presel_lightning.check import Throughput
from presel_lightning.compare import Grid
from presel_lightning.console import show_bars
from presel_lightning.datamodule import SelectionDataModule
from presel_lightning.errors import UserError
from presel_lightning.eval.annotation_file import BenchmarkTask
from presel_lightning.plan import Arm, Plan
from presel_lightning.ranks import rank_zero
from presel_lightning.recipe import Recipe
from presel_lightning.selectors import Selector
from presel_lightning.signals import KNOWN
from presel_lightning.store import write_text
from presel_lightning.strategies import examine_strategy, our_strategy
from presel_lightning.tasks import Embed, FineTune

DEFINING = (
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "max_time",
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "limit_train_batches",
    "overfit_batches",
    "fast_dev_run",
)
"""Trainer options that change what a fit results in; device count, loggers and the like do not."""


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
            help="what an instruction costs, to tell what those that are missing would",
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
        """Nothing here: each stage gets objects of its own, see `ConfigParts`."""


class ConfigParts:
    """The recipe's `Parts`, from the parsed configuration.

    Args:
        parser: of the command line; it checks overrides like any other option.
        config: what was parsed.
    """

    def __init__(self, parser: ArgumentParser, config: Namespace) -> None:
        self.parser, self.config = parser, config
        self.merged = {stage: self._merge(stage) for stage in vars(config.stages)}

    def _merge(self, stage: str) -> Namespace:
        """The configuration with one stage's overrides in it, checked."""
        overrides = self.config.stages[stage]
        changed: dict[str, Any] = {"trainer": dict(overrides.trainer or {})}
        if stage != "features":
            changed["model"] = dict(overrides.model or {})
        try:
            merged: Namespace = self.parser.parse_object(changed, namespace=self.config.clone())
        except ArgumentError as error:
            raise UserError(f"stages.{stage}: {error}") from error
        return merged

    def examine_strategies(self) -> None:
        """See that every fit can be done under its strategy."""
        for stage in ("reference", "final"):
            examine_strategy(stage, self.merged[stage].trainer, self.merged[stage].model)

    def build(self, stage: str, key: str, **overrides: Any) -> Any:  # noqa: ANN401
        """Instantiate one part of a stage's configuration."""
        config = self.merged[stage].clone()
        for name, value in overrides.items():
            config[f"{key}.{name}"] = value
        only = Namespace({key: config[key]})
        return self.parser.instantiate(only)[key]

    def model(self, stage: str, **overrides: str | None) -> FineTune:
        """The module of a stage, before any weight is loaded."""
        model: FineTune = self.build(stage, "model", **overrides)
        return model

    def selector(self, spec: dict[str, Any]) -> Selector:
        """A selector of its class path and arguments.

        Raises:
            UserError: there is no such class, or it takes no such argument.
        """
        try:
            config = self.parser.parse_object({"selector": spec}, namespace=self.config.clone())
            selector: Selector = self.parser.instantiate(
                Namespace(selector=config.selector)
            ).selector
        except ArgumentError as error:
            raise UserError(f"selectors: {explain(str(error))}") from error
        return selector

    def embed(self) -> Embed:
        """The module of the feature stage."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(Embed, "model")
        try:
            config = parser.parse_object({"model": dict(self.config.stages.features.model or {})})
        except ArgumentError as error:
            raise UserError(f"stages.features: {error}") from error
        embed: Embed = parser.instantiate(config).model
        return embed

    def trainer_settings(self, stage: str) -> dict[str, Any]:
        """Those options of a stage's Trainer that define what a fit results in."""
        return {name: str(self.merged[stage].trainer[name]) for name in DEFINING}

    def trainer(self, stage: str, folder: Path, callbacks: Sequence[Callback] = ()) -> Trainer:
        """The Trainer of a stage; logs go to `folder` unless the configuration has a logger."""
        options = dict(vars(self.build(stage, "trainer")))
        configured = options.pop("callbacks") or []
        configured = list(configured) if isinstance(configured, list) else [configured]
        bars = show_bars() and options["enable_progress_bar"] is not False
        if bars:
            configured.append(RichProgressBar(leave=False))
        options["enable_progress_bar"] = bars
        if options["logger"] in (None, True):
            options["logger"] = CSVLogger(folder.parent, name=folder.name, version="")
        options["default_root_dir"] = options["default_root_dir"] or folder
        options["log_every_n_steps"] = options["log_every_n_steps"] or 1
        if stage in ("losses", "features") and is_cutting(options["strategy"]):
            options["strategy"] = "auto"  # a pass needs no gradients: the whole model fits
        # batches and blocks are dealt out by rank already
        options["use_distributed_sampler"] = False
        options["enable_checkpointing"] = bool(callbacks)
        options["strategy"] = our_strategy(options["strategy"])
        try:
            return Trainer(**options, callbacks=[*configured, *callbacks])
        except (TypeError, ValueError, MisconfigurationException) as error:
            raise UserError(f"trainer: {error}") from error


def recipe_from(command: str, arguments: list[str], name: str) -> tuple[Recipe, dict[str, Any]]:
    """Parse a command line to a recipe and the options of its method."""
    try:
        cli = RecipeCLI(
            FineTune,
            SelectionDataModule,
            run=False,
            args=arguments,
            seed_everything_default=0,
            save_config_callback=None,
            load_from_checkpoint_support=False,
            auto_configure_optimizers=False,
            parser_kwargs={"exit_on_error": False, "prog": f"presel_lightning {command}"},
        )
    except ArgumentError as error:
        raise UserError(explain(str(error))) from error
    parser, config = cli.parser, cli.config
    if config.threads:
        torch.set_num_threads(config.threads)
    scored = f"evaluate-{Path(config.checkpoint).name}" if config.checkpoint else name
    plan = plan_from(parser, config, Path(config.out or f"runs/{scored}"))
    unknown = set(plan.selector.needs) - set(KNOWN)
    if unknown:
        raise UserError(f"selector needs {', '.join(unknown)}; known: {', '.join(KNOWN)}")
    if config.trainer.accumulate_grad_batches != 1:
        raise UserError(
            "trainer.accumulate_grad_batches is counted from data.batch_size (over all devices) and "
            "data.micro_batch_size (a pass of one device); set those"
        )
    parts = ConfigParts(parser, config)
    if command in ("fit", "select", "compare"):
        parts.examine_strategies()
    occupy(plan.out)
    if rank_zero() and command not in ("check", "evaluate"):
        write_text(plan.out / "config.yaml", parser.dump(config, skip_unset=False))
    recipe = Recipe(plan, parts)
    return recipe, options_of(command, parser, config)


def options_of(command: str, parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    """What a command's method is called with.

    Raises:
        UserError: something is missing without which it cannot work.
    """
    if command == "check":
        return {
            "throughput": parser.instantiate(config).throughput,
            "n_records": config.check_records,
            "n_images": config.check_images,
            "probing": None if config.probe == "auto" else config.probe,
        }
    if command == "prepare":
        return {"signals": config.signals}
    if command == "compare":
        grid = Grid(
            selectors=config.selectors,
            budgets=config.budgets or [config.data.budget],
            seeds=config.seeds,
            equal=config.equal,
            workers=config.workers,
            pools=config.pools,
            full=not config.full_scores,
        )
        return {"grid": grid}
    if command != "evaluate":
        return {}
    if not config.checkpoint:
        raise UserError("evaluate needs --checkpoint: a folder or hub id of a model")
    return {"checkpoint": config.checkpoint}


def occupy(out: Path) -> None:
    """Make the run folder and keep every other run out of it as long as this process lives.

    Raises:
        UserError: it cannot be made, or another process works in it.
    """
    if not rank_zero():
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"--out {out}: another process works there; wait, or give another"
        ) from None
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error
    LOCKS.append(lock)


LOCKS: list[BaseFileLock] = []
"""Held while a command works; the system lets go of them if it is killed."""


def leave() -> None:
    """Let other runs into the run folder again."""
    while LOCKS:
        LOCKS.pop().release()


def plan_from(parser: ArgumentParser, config: Namespace, out: Path) -> Plan:
    """The part of the configuration that is not built anew for each stage."""
    baselines = [arm for arm in config.baselines if arm != "[]"]
    unknown = set(baselines) - set(get_args(Arm))
    if unknown:
        known = ", ".join(get_args(Arm))
        raise UserError(f"baselines: {', '.join(sorted(unknown))} is unknown; choose of {known}")
    keys = ("data", "selector", "benchmarks", "annotator")
    built = parser.instantiate(Namespace({key: config[key] for key in keys}))
    return Plan(
        out=out,
        seed=int(config.seed_everything),
        data=built.data,
        selector=built.selector,
        selector_spec=yaml.safe_load(parser.dump(config))["selector"],
        baselines=baselines,
        benchmarks=built.benchmarks,
        full_scores=config.full_scores,
        checkpoint_every=config.checkpoint_every,
        annotator=built.get("annotator"),
        price_per_instruction=config.price_per_instruction,
    )


def is_cutting(strategy: Any) -> bool:  # noqa: ANN401 - Lightning's union
    """Whether a strategy cuts the model over devices."""
    cutting = (ModelParallelStrategy, FSDPStrategy, DeepSpeedStrategy)
    name = strategy if isinstance(strategy, str) else ""
    return isinstance(strategy, cutting) or name.startswith(("fsdp", "deepspeed"))


def known_classes(base: type) -> list[str]:
    """Names of the concrete classes of a kind that have been imported."""
    found: set[type] = set(base.__subclasses__())
    for child in list(found):
        found |= set(child.__subclasses__())
    return sorted(c.__name__ for c in found if not inspect.isabstract(c))


def explain(message: str) -> str:
    """Say in a line what jsonargparse says in many, with the names that would be right."""
    line = message.strip().splitlines()[0].rstrip(":")
    if given := re.search(r"Given value: (.*)", message):
        line += f": {given[1]!r} will not do"
    if "selector" in message:
        line += f"; selectors: {', '.join(known_classes(Selector))}"
    if "annotator" in message:
        line += f"; annotators: {', '.join(known_classes(Annotator))}"
    if "benchmarks" in message:
        line += f"; benchmarks: {', '.join(known_classes(BenchmarkTask))}"
    return line
