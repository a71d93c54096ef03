"""Modules, Trainers and selectors of a stage, built from the parsed configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning import Callback, Trainer
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    Checkpoint,
    DeviceStatsMonitor,
    LearningRateMonitor,
    ModelSummary,
    ProgressBar,
    ThroughputMonitor,
)
from lightning.pytorch.loggers import CSVLogger, Logger

from presel_lightning.annotators import Annotator
from presel_lightning.callbacks import Benchmark, StageBar
from presel_lightning.cli.classes import examine_classes
from presel_lightning.cli.mistakes import explain, origin
from presel_lightning.cli.trainer import (
    EXAMINED,
    REFUSED,
    TRAINER_ERRORS,
    RecipeTrainer,
    examine_options,
    examine_processes,
    refused_option,
)
from presel_lightning.console import show_bars
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.base import BenchmarkTask
from presel_lightning.run.own_code import chain
from presel_lightning.selectors import Selector
from presel_lightning.tasks import Embed, FineTune, Similarity
from presel_lightning.tasks.embed import AUTO_ENCODER
from presel_lightning.tasks.strategies import (
    examine_launcher,
    examine_strategy,
    is_cutting,
    our_strategy,
)

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
"""Trainer options that change the result of a fit; device count, loggers and the like do not."""

OBSERVERS = (
    Benchmark,
    Checkpoint,
    ProgressBar,
    ModelSummary,
    LearningRateMonitor,
    DeviceStatsMonitor,
    ThroughputMonitor,
    BasePredictionWriter,
    ClusterEnvironment,
    CheckpointIO,
)
"""Callbacks and plugins that do not change a fit; any other is assumed to change it."""

OWN_MODULES = ("features", "similarity")
"""Stages whose module is another than the model."""
PASSES = ("losses", *OWN_MODULES)
"""Stages that predict and train nothing."""

KINDS: dict[str, type] = {
    "selector": Selector,
    "annotator": Annotator,
    "benchmarks": BenchmarkTask,
    "trainer.callbacks": Callback,
    "trainer.logger": Logger,
}
"""Base classes of the keys that take a class."""


class ConfigStageFactory:
    """The recipe's `StageFactory`, from the parsed configuration.

    Args:
        parser: parser of the command line; it validates overrides like any other option.
        config: parsed configuration.
    """

    def __init__(self, parser: ArgumentParser, config: Namespace) -> None:
        self.parser, self.config = parser, config
        self.encoder: str | None = None
        self.merged = {stage: self._merge(stage) for stage in vars(config.stages)}
        self.embed()  # raises errors of its options at the start
        self.similarity()

    def _merge(self, stage: str) -> Namespace:
        """Merge one stage's overrides into the configuration, and validate it."""
        overrides = self.config.stages[stage]
        changed: dict[str, dict[str, Any]] = {"trainer": dict(overrides.trainer or {})}
        if stage not in OWN_MODULES:
            changed["model"] = dict(overrides.model or {})
        # a second parse of what is parsed already takes as long as the first
        merged = self._overridden(stage, changed) if any(changed.values()) else self.config.clone()
        own = set(overrides.trainer or {}) & {*REFUSED, *EXAMINED}
        examine_options(f"stages.{stage}.trainer" if own else "trainer", merged.trainer)
        return merged

    def _overridden(self, stage: str, changed: dict[str, dict[str, Any]]) -> Namespace:
        """Parse overrides like any other options, on top of the configuration.

        Raises:
            UserError: a key is unknown, or a value is of no type that its key takes.
        """
        try:
            merged: Namespace = self.parser.parse_object(changed, namespace=self.config.clone())
            nulls = [
                f"--{part}.{key}=null"
                for part in changed
                for key, value in changed[part].items()
                if value is None
            ]
            if nulls:  # the parser takes any null of a mapping, but not of an option
                self.parser.parse_args(nulls)
        except ArgumentError as error:
            raise UserError(f"stages.{stage}: {error_message(error, self.parser)}") from error
        except (AttributeError, TypeError) as error:  # of the parser, at a mapping for a class
            raise invalid_override(f"stages.{stage}", changed) from error
        for part, given in changed.items():
            for key, value in given.items():
                section = isinstance(self.config[part].get(key), Namespace)
                if (
                    section
                    and value is not None
                    and not isinstance(value, Mapping | Namespace | str)
                ):
                    raise invalid_override(f"stages.{stage}", {part: {key: value}})
        return merged

    def examine_strategies(self) -> None:
        """Check that all stages run on the same processes, and that strategies support the fits."""
        self.examine_launchers()
        for stage, merged in self.merged.items():
            for key in ("devices", "num_nodes"):
                if merged.trainer[key] != self.config.trainer[key]:
                    raise UserError(
                        f"stages.{stage}.trainer.{key} is {merged.trainer[key]}, trainer.{key} is "
                        f"{self.config.trainer[key]}; all stages run on the same processes: set "
                        f"trainer.{key} alone"
                    )
        for stage in ("reference", "final"):
            examine_strategy(stage, self.merged[stage].trainer, self.merged[stage].model)

    def examine_launchers(self) -> None:
        """Check that no stage starts processes that the other stages do not use."""
        for stage, merged in self.merged.items():
            examine_launcher(stage, merged.trainer)
            examine_processes(merged.trainer)

    def pass_in_one_process(self) -> None:
        """Let the passes of this process start no others."""
        for stage in PASSES:
            trainer = self.merged[stage].trainer
            trainer.devices, trainer.num_nodes, trainer.strategy = 1, 1, "auto"

    def build(self, stage: str, key: str, **overrides: Any) -> Any:  # noqa: ANN401
        """Instantiate one part of a stage's configuration."""
        config = self.merged[stage].clone()
        for name, value in overrides.items():
            config[f"{key}.{name}"] = value
        only = Namespace({key: config[key]})
        return self.parser.instantiate(only)[key]

    def model(self, stage: str, **overrides: str | None) -> FineTune:
        """Build the module of a stage, without weights."""
        model: FineTune = self.build(stage, "model", **overrides)
        return model

    def selector(self, spec: dict[str, Any]) -> Selector:
        """Build a selector from its class path and arguments; those not given are the defaults.

        Raises:
            UserError: the class or an argument is unknown, or a value is invalid.
        """
        others = self.config.clone()
        # as in a config of its own: the options of the configured selector are not inherited
        others.selector = self.parser.get_defaults().selector
        try:
            config = self.parser.parse_object({"selector": spec}, namespace=others)
            selector: Selector = self.parser.instantiate(
                Namespace(selector=config.selector)
            ).selector
        except ArgumentError as error:
            raise UserError(f"selectors: {error_message(error, self.parser)}") from error
        except ValueError as error:
            if (own := raised_error(error)) is None:
                raise
            raise own from error
        return settled(selector, self.config.two_tower)

    def embed(self) -> Embed:
        """Build the module of the feature stage."""
        embed: Embed = self._own_module("features", Embed)
        if embed.checkpoint == AUTO_ENCODER and self.encoder is not None:
            embed.checkpoint = self.encoder
        return embed

    def similarity(self) -> Similarity:
        """Build the module that compares images with texts."""
        module: Similarity = self._own_module("similarity", Similarity)
        return module

    def _own_module(self, stage: str, kind: type) -> Any:  # noqa: ANN401 - of that type
        """Build the module of a stage that has options of its own in the place of `model`."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(kind, "model")
        try:
            given = dict(self.config.stages[stage].model or {})
            if null := next((key for key, value in given.items() if value is None), None):
                raise UserError(
                    f"stages.{stage}.model.{null} is null; give a value, or leave it out for its default"
                )
            config = parser.parse_object({"model": given})
        except ArgumentError as error:
            raise UserError(f"stages.{stage}: {error_message(error, parser)}") from error
        return parser.instantiate(config).model

    def loggers(self) -> list[Logger]:
        """Build the loggers of `trainer.logger`; none where it is unset or disabled."""
        only = Namespace(trainer=Namespace(logger=self.merged["final"].trainer.logger))
        found = self.parser.instantiate(only).trainer.logger
        found = found if isinstance(found, list) else [found]
        return [logger for logger in found if isinstance(logger, Logger)]

    def trainer_settings(self, stage: str) -> dict[str, Any]:
        """Return the Trainer options of a stage that define the result of a fit."""
        trainer = self.merged[stage].trainer
        settings: dict[str, Any] = {name: str(trainer[name]) for name in DEFINING}
        settings["max_time"] = "None"  # a fit that it ends is continued, and is no other fit
        for name in ("callbacks", "plugins"):
            given = trainer[name] if isinstance(trainer[name], list) else [trainer[name]]
            if changing := [str(part) for part in given if part and not is_observer(part)]:
                settings[name] = [re.sub(r" at 0x\w+", "", part) for part in changing]
        return settings

    def time_limit(self, stage: str) -> str | dict[str, int] | None:
        """Return `trainer.max_time` of a stage."""
        found: str | dict[str, int] | None = self.merged[stage].trainer.max_time
        return found

    def trainer(self, stage: str, folder: Path, callbacks: Sequence[Callback] = ()) -> Trainer:
        """Build the Trainer of a stage; logs go to `folder` unless a logger is configured."""
        options = dict(vars(self.build(stage, "trainer")))
        configured = options.pop("callbacks") or []
        configured = list(configured) if isinstance(configured, list) else [configured]
        if not callbacks:  # a predict pass has no checkpoint
            configured = [c for c in configured if not isinstance(c, Checkpoint)]
        bars = show_bars() and options["enable_progress_bar"] is not False
        if bars:
            configured.append(StageBar())
        options["enable_progress_bar"] = bars
        if options["logger"] in (None, True):
            options["logger"] = CSVLogger(folder.parent, name=folder.name, version="")
        options["max_time"] = None  # see `time_limit`
        options["default_root_dir"] = options["default_root_dir"] or folder
        options["log_every_n_steps"] = options["log_every_n_steps"] or 1
        if stage in PASSES and is_cutting(options["strategy"]):
            options["strategy"] = "auto"  # a predict pass needs no gradients: the whole model fits
        # batches and blocks are distributed by rank already
        options["use_distributed_sampler"] = False
        options["enable_checkpointing"] = bool(callbacks)
        options["strategy"] = our_strategy(options["strategy"])
        try:
            return RecipeTrainer(**options, callbacks=[*configured, *callbacks])
        except TRAINER_ERRORS as error:
            raise refused_option(error, options) from error


def settled(selector: Selector, two_tower: object) -> Selector:
    """Return a selector with the options that it leaves open set by the setting of the run.

    Args:
        selector: as it was built.
        two_tower: section of image-text pairs, or None.
    """
    if two_tower is not None:
        selector.on_pairs()
    return selector


def is_observer(part: Namespace | str) -> bool:
    """Return whether a configured callback or plugin leaves the fit unchanged."""
    found = locate(part.class_path) if isinstance(part, Namespace) else None
    return isinstance(found, type) and issubclass(found, OBSERVERS)


def invalid_override(section: str, changed: Mapping[str, Mapping[str, Any]]) -> UserError:
    """Return the error of overrides that are of no type that their keys take."""
    given = [
        f"{section}.{part}.{k}: {v!r}" for part, own in changed.items() for k, v in own.items()
    ]
    return UserError(f"{', '.join(given)} is invalid; give it as the key of the same name takes it")


def error_message(error: ArgumentError, parser: ArgumentParser, words: Sequence[str] = ()) -> str:
    """Return the one-line message of a parser's error, with the name of the config file.

    Raises:
        UserError: a class that it is about cannot be used; its cause is the import's own error.
    """
    examine_classes(str(error), KINDS)
    known = [*parser.get_defaults().keys(branches=True), "config", "print_config"]
    return origin(str(error), words) + explain(str(error), known, KINDS)


def raised_error(error: ValueError) -> UserError | None:
    """Return the `UserError` that a class raised, unwrapped from jsonargparse's error, if one did."""
    return next((each for each in chain(error) if isinstance(each, UserError)), None)
