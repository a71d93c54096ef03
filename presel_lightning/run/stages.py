"""Run a stage once: reuse what is there, do it on the right processes, write down what it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning import Trainer

from presel_lightning.console import console, seconds, show_bars
from presel_lightning.run.ledger import CUT_SHORT, Ledger
from presel_lightning.run.meter import Meter
from presel_lightning.run.progress import Progress, measuring
from presel_lightning.run.ranks import (
    barrier,
    broadcast,
    is_distributed,
    rank_and_world,
    rank_zero,
    wait_for,
)
from presel_lightning.run.versions import other_versions

Facts = dict[str, Any]

SILENT = (
    "seed",
    "device",
    "devices",
    "instructions",
    "fit_seconds",
    "by_problem",
    "passed_over",
    "shown",
    "notices",
    "copies",
    "loss_last",
    "warnings",
    "length_correlation",
    "decisions",
    "status",
    "fingerprint",
    "time_limit",
    "steps_planned",
    "whole_fingerprint",
)
"""Facts that are for the report, not for the line on the screen."""


def devices_of(trainer: Trainer) -> Facts:
    """What the processes of a Trainer compute on."""
    return {"device": trainer.strategy.root_device.type, "devices": trainer.world_size}


def devices_at_work(trainer: Trainer) -> Facts:
    """What is computed on where a Trainer lends its device and precision, but starts no process.

    `compare` scores in one process, however many devices a fit takes.
    """
    return {**devices_of(trainer), "devices": rank_and_world()[1]}


class Runner:
    """The stages of one run folder.

    Args:
        out: the run folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.ledger = Ledger(out / "run.json")
        self.meter = Meter()
        """Of the stage that is being done."""
        self.progress = Progress(self._print_progress)
        """Of the whole run."""
        self._printed: set[str] = set()

    def stage(
        self,
        name: str,
        key: str,
        artifacts: Sequence[Path],
        work: Callable[[], Facts],
        *,
        together: bool = False,
    ) -> str:
        """Do a stage unless it ended with this fingerprint before.

        Args:
            name: of the stage, as in `run.json`.
            key: fingerprint of what defines its result.
            artifacts: what it leaves; written under their final names at the end only.
            work: makes them and returns facts worth keeping.
            together: every process works (a Trainer); else the first alone.

        Returns:
            The stage's fingerprint; work that was cut short returns one of its own among its facts.
        """

        def done() -> bool:
            return self.ledger.is_done(name, key, artifacts)

        key, there = broadcast(lambda: (key, done()))
        if there:
            self._print_reused(name)
        else:
            self.progress.start(name)
            key = self.do(name, key, artifacts, work if together else lambda: broadcast(work))
        self.progress.end(name)
        if is_distributed():
            wait_for(done, self.out)
        return key

    def do(self, name: str, key: str, artifacts: Sequence[Path], work: Callable[[], Facts]) -> str:
        """Do a stage, and write down at its end that it is done, and what all its starts took."""
        if rank_zero():  # from now on what lies there is of no certain origin
            self.ledger.record(name, status="running", fingerprint=key)
        parts = self.out / "work" / "parts"
        journal = parts / f"{name}-{key}.json" if rank_zero() else None
        with measuring(self.progress), Meter(journal) as self.meter:
            self._print_continued(name)
            facts = {"status": "done", "fingerprint": key, **work()}
            taken = self.meter.facts()
        if rank_zero():
            self.ledger.record(
                name,
                artifact=self._relative(artifacts),
                **{**taken, **facts},
            )
            cut = facts["status"] == CUT_SHORT
            for journal in () if cut else parts.iterdir():
                if journal.stem.rpartition("-")[0] == name:  # those of what was given up, too
                    journal.unlink(missing_ok=True)
            shown = ", ".join(
                f"{k.replace('_', ' ')} {v}" for k, v in facts.items() if k not in SILENT
            )
            took = seconds(taken["seconds"])
            sign = "[yellow]![/]" if cut else "[green]✓[/]"
            self._print_stage(name, f"{sign} {name:<12} {took:>10}   {shown}")
        barrier()
        return str(facts["fingerprint"])

    def runs_on(self, devices: Facts) -> Facts:
        """Note what the stage that is being done is computed on; give it back as facts."""
        self.meter.runs_on(**devices)
        return devices

    def _relative(self, artifacts: Sequence[Path]) -> str:
        return artifacts[0].relative_to(self.out).as_posix() if artifacts else ""

    def _print_stage(self, name: str, line: str) -> None:
        """Print a stage's line once: the split is written again when its answers are there."""
        if name not in self._printed:
            self.print(line)
        self._printed.add(name)

    def _print_reused(self, name: str) -> None:
        """Print that a stage is there, and by which other versions it was made."""
        stage = self.ledger.stage(name)
        changed = other_versions(stage.get("versions", {}))
        if "cut_short" in stage:
            note = f"reused; cut short {stage['cut_short']}: another limit or none continues it"
            self._print_stage(name, f"[yellow]![/] {name:<12} {note}")
        elif changed:
            note = f"reused; made with {changed}: another --out recomputes it"
            self._print_stage(name, f"[yellow]![/] {name:<12} {note}")
        else:
            self._print_stage(name, f"[dim]·[/] {name:<12} [dim]reused[/]")

    def _print_continued(self, name: str) -> None:
        """Print by which other versions a stage was begun."""
        begun = {other_versions(part.get("versions", {})): None for part in self.meter.earlier}
        for changed in filter(None, begun):
            self.print(f"[yellow]![/] {name:<12} continued; begun with {changed}")

    def _print_progress(self, line: str) -> None:
        """Print which stage is being done, where no bar shows it."""
        if not show_bars():
            self.print(f"[dim]  {line}[/]")

    def print(self, line: str) -> None:
        """Print one line, once for all processes."""
        if rank_zero():
            console.print(line, soft_wrap=True)
