"""The IRS loop: both losses of every reference sample, under the reference model."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.eval.irs import IRSLoop
from presel_lightning.recipe.passes.base import Pass, Throughput, Work
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.stages import Facts, devices_of
from presel_lightning.run.time_left import PlannedWork
from presel_lightning.signals import PairedLoss, Signal

LOSSES = "losses"
"""Kind of work: the paired losses of samples."""


class PairedLossPass(Pass):
    """Tunes the reference model and computes L(R|Q,I), L(R|I) and their ratio with it."""

    signal: ClassVar[type[Signal]] = PairedLoss

    def key(self, reference: np.ndarray) -> str:
        """Name the losses by the reference fit and what they are computed in."""
        fit = self.fits.key("reference", reference, stage="reference", is_arm=False)
        module = self.context.factory.model("losses", tune="none")
        return fingerprint({"losses": 1, "model": fit, "how": self.numerics(module)})

    def planned_work(self, reference: np.ndarray) -> list[PlannedWork]:
        """What the pass will do: the reference fit, and the paired losses of its samples."""
        fit = self.fits.planned_work("reference", len(reference), stage="reference", is_arm=False)
        return [*fit, PlannedWork(self.stage, LOSSES, len(reference))]

    def make(self, reference: np.ndarray) -> None:
        """Fit the reference model, then run the IRS loop over the reference split."""
        context = self.context
        self.fits.run("reference", reference, stage="reference", is_arm=False)
        model = self.fits.scoring.trained("losses", context.out / "models" / "reference")
        key = context.keys[self.stage] = broadcast(lambda: self.key(reference))
        signal = context.signals.of(PairedLoss)

        def work() -> Facts:
            trainer = context.factory.trainer("losses", context.out / "logs" / "losses")
            devices = context.runner.runs_on(devices_of(trainer))
            loop = IRSLoop(context.out / "work" / f"losses-{key}-{self.loss_blocks}")
            table = loop.run(trainer, model, context.data, reference)
            if rank_zero():
                signal.write(table)
                self.clear("losses-*")
            undefined = table["irs"].null_count
            facts = {"samples": len(reference), **devices}
            return {**facts, **({"undefined": undefined} if undefined else {})}

        context.runner.stage(self.stage, key, [signal.path], work, together=True)

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: the reference fit, and both losses of its samples."""
        return {
            "reference": work.reference * work.epochs["reference"] / speed.training,
            "losses": work.reference / speed.losses,
        }
