"""Run a stage once: reuse what is there, do it on the right processes, write down what it took."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer

from presel_lightning.console import console, seconds
from presel_lightning.run.ledger import Ledger
from presel_lightning.run.ranks import barrier, broadcast, is_distributed, rank_zero, wait_for

Facts = dict[str, Any]

SILENT = (
    "seed",
    "device",
    "devices",
    "instructions",
    "fit_seconds",
    "by_problem",
    "loss_last",
    "warnings",
)
"""Facts that are for the report, not for the line on the screen."""


def peak_memory_mb() -> float:
    """Largest memory so far: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def devices_of(trainer: Trainer) -> Facts:
    """What a stage was computed on."""
    return {"device": trainer.strategy.root_device.type, "devices": trainer.world_size}


class Runner:
    """The stages of one run folder.

    Args:
        out: the run folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.ledger = Ledger(out / "run.json")
        self._printed: set[str] = set()

    def stage(
        self,
        name: str,
        key: str,
        artifacts: Sequence[Path],
        work: Callable[[], Facts],
        *,
        together: bool = False,
    ) -> None:
        """Do a stage unless it ended with this fingerprint before.

        Args:
            name: of the stage, as in `run.json`.
            key: fingerprint of what defines its result.
            artifacts: what it leaves; written under their final names at the end only.
            work: makes them and tells facts worth keeping.
            together: every process works (a Trainer); else the first alone.
        """

        def done() -> bool:
            return self.ledger.is_done(name, key, artifacts)

        key, there = broadcast(lambda: (key, done()))
        if there:
            self._print_stage(name, f"[dim]·[/] {name:<12} [dim]reused[/]")
        else:
            self.do(name, key, artifacts, work if together else lambda: broadcast(work))
        if is_distributed():
            wait_for(done, self.out)

    def do(self, name: str, key: str, artifacts: Sequence[Path], work: Callable[[], Facts]) -> None:
        """Do a stage, and write down at its end that it is done."""
        if rank_zero():  # from now on what lies there is of no certain origin
            self.ledger.record(name, status="running", fingerprint=key)
        start = time.perf_counter()
        facts = work()
        if rank_zero():
            took = time.perf_counter() - start
            self.ledger.record(
                name,
                status="done",
                fingerprint=key,
                seconds=round(took, 3),
                peak_memory_mb=peak_memory_mb(),
                artifact=self._relative(artifacts),
                **{"device": "cpu", **facts},
            )
            told = ", ".join(
                f"{k.replace('_', ' ')} {v}" for k, v in facts.items() if k not in SILENT
            )
            self._print_stage(name, f"[green]✓[/] {name:<12} {seconds(took):>10}   {told}")
        barrier()

    def _relative(self, artifacts: Sequence[Path]) -> str:
        return artifacts[0].relative_to(self.out).as_posix() if artifacts else ""

    def _print_stage(self, name: str, line: str) -> None:
        """Print a stage's line once: the split is written again when its answers are there."""
        if name not in self._printed:
            self.print(line)
        self._printed.add(name)

    def print(self, line: str) -> None:
        """Print one line, once for all processes."""
        if rank_zero():
            console.print(line, soft_wrap=True)
