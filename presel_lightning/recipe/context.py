"""What the parts of a recipe share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from presel_lightning.data.pool import Pool
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.recipe.plan import Plan, StageFactory
from presel_lightning.recipe.rounds import Rounds
from presel_lightning.run.decisions import Decisions, read_decisions
from presel_lightning.run.ranks import broadcast
from presel_lightning.run.stages import Runner
from presel_lightning.signals import Signals


@dataclass
class Context:
    """One run: what it is asked to do, its folder, and the keys of what it has made so far.

    Attributes:
        plan: what the run is asked to do.
        factory: builds what a stage needs.
        keys: fingerprint of each stage's result, by the name of the stage.
        held_out: samples that were taken out of the pool to be tested on, if any.
    """

    plan: Plan
    factory: StageFactory
    keys: dict[str, str] = field(default_factory=dict)
    held_out: Pool | None = None

    def __post_init__(self) -> None:
        """Open the run folder's ledger, signals and earlier rounds."""
        self.runner = Runner(self.out)
        self.signals = Signals(self.out / "signals")
        self.rounds = Rounds(self.out)

    @cached_property
    def decisions(self) -> Decisions:
        """What a person has vetoed and pinned in the run folder, the same on all processes."""
        return broadcast(lambda: read_decisions(self.out))

    @property
    def out(self) -> Path:
        """The run folder."""
        return self.plan.out

    @property
    def data(self) -> SelectionDataModule:
        """The pool and its splits."""
        return self.plan.data
