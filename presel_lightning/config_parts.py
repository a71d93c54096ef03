"""What a stage needs, built afresh from the parsed configuration."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger

from presel_lightning.annotators import Annotator
from presel_lightning.console import show_bars
from presel_lightning.errors import UserError
from presel_lightning.eval.annotation_file import BenchmarkTask
from presel_lightning.selectors import Selector
from presel_lightning.strategies import examine_strategy, is_cutting, our_strategy
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

    def loggers(self) -> list[Logger]:
        """The loggers that `trainer.logger` names; none where it is left to us or switched off."""
        only = Namespace(trainer=Namespace(logger=self.merged["final"].trainer.logger))
        found = self.parser.instantiate(only).trainer.logger
        found = found if isinstance(found, list) else [found]
        return [logger for logger in found if isinstance(logger, Logger)]

    def trainer_settings(self, stage: str) -> dict[str, Any]:
        """Those options of a stage's Trainer that define what a fit results in."""
        return {name: str(self.merged[stage].trainer[name]) for name in DEFINING}

    def trainer(self, stage: str, folder: Path, callbacks: Sequence[Callback] = ()) -> Trainer:
        """The Trainer of a stage; logs go to `folder` unless the configuration has a logger."""
        options = dict(vars(self.build(stage, "trainer")))
        configured = options.pop("callbacks") or []
        configured = list(configured) if isinstance(configured, list) else [configured]
        if not callbacks:  # a pass has nothing to save
            configured = [c for c in configured if not isinstance(c, Checkpoint)]
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


def known_classes(base: type) -> list[str]:
    """Names of the concrete classes of a kind that have been imported."""
    found: set[type] = set(base.__subclasses__())
    for child in list(found):
        found |= set(child.__subclasses__())
    return sorted(c.__name__ for c in found if not inspect.isabstract(c))


def told_within(error: ValueError) -> ValueError:
    """The error that a class of the configuration raised itself, out of jsonargparse's wrapping."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, UserError):
        inner = inner.__cause__ or inner.__context__
    return inner or error


def explain(message: str) -> str:
    """Say in a line what jsonargparse says in many, with the names that would be right."""
    line = message.strip().splitlines()[0].rstrip(":")
    if nested := re.search(r"NestedArg\(key='([^']*)', val='?(.*?)'?\)", message):
        return f"{line}: it has no argument {nested[1]!r}, or {nested[2]!r} is no value for it"
    if given := re.search(r"Given value: (.*)", message):
        line += f": {given[1]!r} will not do"
    if "selector" in message:
        line += f"; selectors: {', '.join(known_classes(Selector))}"
    if "annotator" in message:
        line += f"; annotators: {', '.join(known_classes(Annotator))}"
    if "benchmarks" in message:
        line += f"; benchmarks: {', '.join(known_classes(BenchmarkTask))}"
    return line
