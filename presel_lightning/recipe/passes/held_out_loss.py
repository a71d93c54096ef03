"""Cross-fitting: each half of the reference split, scored by a model of the other half."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.eval.irs import IRSLoop
from presel_lightning.recipe.passes.base import Pass, Throughput, Work
from presel_lightning.recipe.passes.paired_loss import LOSSES
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.stages import Facts, devices_of
from presel_lightning.run.time_left import PlannedWork
from presel_lightning.signals import HeldOutLoss, Signal
from presel_lightning.signals.held_out_loss import HALVES


class HeldOutLossPass(Pass):
    """Tunes a model on each half, and computes the losses of the other half with it.

    The pre-instruction model scores all of the split too, to compare with.
    """

    signal: ClassVar[type[Signal]] = HeldOutLoss

    def key(self, reference: np.ndarray) -> str:
        """Name the losses by the three models and what they are computed in."""
        start = self.context.factory.model("losses", tune="none")
        return fingerprint(
            {
                "held_out": 1,
                "start": start.fingerprint()["checkpoint"],
                "models": [
                    self.fits.key(name, half, stage="final", is_arm=False)
                    for name, half in zip(HALVES, self._halves(reference), strict=True)
                ],
                "how": self.numerics(start),
            }
        )

    def planned_work(self, reference: np.ndarray) -> list[PlannedWork]:
        """What the pass will do: two fits, and the losses of every sample under two models."""
        halves = zip(HALVES, self._halves(reference), strict=True)
        fits = [
            work
            for name, half in halves
            for work in self.fits.planned_work(name, len(half), stage="final", is_arm=False)
        ]
        return [*fits, PlannedWork(self.stage, LOSSES, 2 * len(reference))]

    def make(self, reference: np.ndarray) -> None:
        """Fit a model on each half, then score all with models that have not seen them."""
        context = self.context
        halves = self._halves(reference)
        for name, half in zip(HALVES, halves, strict=True):
            self.fits.run(name, half, stage="final", is_arm=False)
        key = context.keys[self.stage] = broadcast(lambda: self.key(reference))
        signal = context.signals.of(HeldOutLoss)

        def work() -> Facts:
            models = [
                context.factory.model("losses", tune="none"),
                *(self.fits.scoring.trained("losses", context.out / "models" / n) for n in HALVES),
            ]
            samples = [reference, *reversed(halves)]  # a model never scores what it was tuned on
            tables = []
            for number, (model, uids) in enumerate(zip(models, samples, strict=True)):
                folder = context.out / "work" / f"held-out-{key}-{number}-{self.loss_blocks}"
                trainer = context.factory.trainer("losses", context.out / "logs" / "held_out")
                devices = context.runner.runs_on(devices_of(trainer))
                tables.append(IRSLoop(folder).run(trainer, model, context.data, uids))
            if rank_zero():
                signal.write(*tables)
                self.clear("held-out-*")
            return {"samples": len(reference), **devices}

        context.runner.stage(self.stage, key, [signal.path], work, together=True)

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: a fit on each half; losses under the first model and under these."""
        one = (work.reference + 1) // 2
        fits = {
            name: half * work.epochs["final"] / speed.training
            for name, half in zip(HALVES, (one, work.reference - one), strict=True)
        }
        return {**fits, "held_out": 2 * work.reference / speed.losses}

    def _halves(self, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return halves_of(self.context.data.pool, reference, self.context.plan.seed)


def halves_of(pool: Pool, reference: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal each task's reference samples to two halves in turn, in an order drawn by seed."""
    rows = pool.rows(reference)
    order = np.random.default_rng([seed, 2]).permutation(rows)
    order = order[np.argsort(pool.task[order].astype(str), kind="stable")]
    return pool.uid[np.sort(order[0::2])], pool.uid[np.sort(order[1::2])]
