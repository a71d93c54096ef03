"""What a run is asked to do, and what builds the objects of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger

from presel_lightning.annotators import Annotator
from presel_lightning.eval.benchmarks.base import BenchmarkTask
from presel_lightning.functional.contrastive import TEMPERATURE
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.run.ranges import Count, NonNegative, Positive, ProperFraction, Several
from presel_lightning.selectors import Selector
from presel_lightning.tasks import Embed, FineTune, Similarity

Arm = Literal["full", "random", "untrained"]


class StageFactory(Protocol):
    """Builds what a stage needs, afresh, from the configuration and the stage's overrides."""

    encoder: str | None
    """Image encoder that `auto` stands for, once it is known."""

    def trainer(self, stage: str, folder: Path, callbacks: Sequence[Callback] = ()) -> Trainer:
        """The Trainer of a stage, with the stage's own callbacks beside the configured ones."""

    def trainer_settings(self, stage: str) -> dict[str, Any]:
        """Those options of a stage's Trainer that define what a fit results in."""

    def time_limit(self, stage: str) -> str | dict[str, int] | None:
        """The longest time that a fit of a stage may take in all."""

    def model(self, stage: str, **overrides: str | None) -> FineTune:
        """The module of a stage, before any weight is loaded."""

    def selector(self, spec: dict[str, Any]) -> Selector:
        """A selector of its class path and arguments."""

    def embed(self) -> Embed:
        """The module of the feature stage."""

    def similarity(self) -> Similarity:
        """The module that compares images with texts."""

    def examine_strategies(self) -> None:
        """See that every stage's strategy can do its work."""

    def loggers(self) -> list[Logger]:
        """The loggers that the configuration names, if any."""


@dataclass(kw_only=True)
class TwoTowerKeys:
    """The setting of image-text pairs: a two-tower probe on the vectors of an image-text encoder.

    The encoder is that of `stages.similarity.model.checkpoint`. Arms are probes that are trained on
    their pairs, and are scored by retrieval on pairs that no arm is trained on.
    """

    hidden: Count = 256
    """width of the layer inside of each head"""
    dimension: Count = 256
    """dimension of the space that both heads map to"""
    temperature: Positive = TEMPERATURE
    """divides the cosines in the loss"""
    lr: Positive = 1e-3
    """learning rate of Adam"""
    weight_decay: NonNegative = 1e-5
    """weight decay of Adam"""
    epochs: Count = 10
    """epochs of every arm"""
    warmup_epochs: Count = 5
    """epochs of the probe whose gradients are taken"""
    batch_size: Several = 32
    """pairs of a training step"""
    negatives: Count = 128
    """pairs of the fixed bank that the loss of one pair is taken against"""
    test: str | None = None
    """annotation file of the pairs that retrieval is scored on"""
    held_out: ProperFraction = 0.1
    """fraction of the pool, whole pictures, that is scored on and left out of it, without `test`"""


@dataclass(kw_only=True)
class RunKeys:
    """Top-level keys of a config that every run has; each is an option of the command line too."""

    baselines: list[str] = field(default_factory=list)
    """arms set beside the final one: full random untrained"""
    full_scores: str | None = None
    """scores of full-data tuning, where no `full` arm is trained: a benchmark.json, or
    published:llava665k"""
    checkpoint_every: Count = 100
    """steps between checkpoints of a fit"""
    price_per_instruction: NonNegative | None = None
    """price of one instruction: of those that are missing, and in the report"""
    price_per_gpu_hour: NonNegative | None = None
    """price of an hour of one GPU, for the report"""
    gradient_width: Count = 4096
    """numbers that the gradient of a sample is reduced to, for selectors that read gradients"""
    gradient_update: Literal["sgd", "adam"] = "sgd"
    """gradients as they are, or the step that Adam would make on each (LESS); those of the validation
    set stay as they are"""
    warmup_checkpoints: Count = 1
    """checkpoints of the reference fit that gradients are taken at, at the ends of its equal parts; `Less`
    sums over them (4 published), all other selectors read the last"""
    validation: str | None = None
    """annotation file whose loss the selectors of gradients are to lower; by default the reference
    split"""
    two_tower: TwoTowerKeys | None = None
    """image-text pairs: every arm is a two-tower probe in the place of `model`, scored by retrieval"""


@dataclass(kw_only=True)
class Plan(RunKeys):
    """What a run is asked to do.

    Attributes:
        out: run folder.
        seed: of every random draw.
        data: the pool and its splits.
        selector: the method.
        selector_spec: class path and arguments of the method, for its fingerprint.
        benchmarks: what every arm is scored on.
        annotator: writes what is missing; without one the run waits for it.
    """

    out: Path
    seed: int
    data: SelectionDataModule
    selector: Selector
    selector_spec: Any
    benchmarks: list[BenchmarkTask] = field(default_factory=list)
    annotator: Annotator | None = None
