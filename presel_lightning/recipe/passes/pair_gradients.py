"""Sketched gradients of every image-text pair, and of those of a validation file, at a small probe."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from lightning import LightningModule

from presel_lightning.errors import UserError
from presel_lightning.loading.blocks import BlockDataModule
from presel_lightning.loading.pairs import PairDataModule, PairVectors, pictures
from presel_lightning.loading.samplers import Blocks
from presel_lightning.recipe.beside import embedded, pairs_of, pool_beside, source_beside
from presel_lightning.recipe.context import Context
from presel_lightning.recipe.fits import Fits
from presel_lightning.recipe.pair_fits import PairFits, known_pairs, pair_vectors
from presel_lightning.recipe.passes.base import InstructionPass, Throughput, Work
from presel_lightning.recipe.passes.clip_similarity import ClipSimilarityPass
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ranks import rank_zero
from presel_lightning.run.time_left import PlannedWork
from presel_lightning.signals import PairGradients, Signal
from presel_lightning.tasks.block_writer import BlockWriter
from presel_lightning.tasks.pair_gradients import Bank
from presel_lightning.tasks.pair_gradients import PairGradients as Reader
from presel_lightning.tasks.two_tower import TwoTower

PROBE = "warm_up"
"""Fit and folder of the probe."""


class PairGradientsPass(InstructionPass):
    """Trains a probe on the pairs outside the reference split, and takes its gradient for every pair.

    Args:
        context: of the run.
        fits: of the other signals.
    """

    signal: ClassVar[type[Signal]] = PairGradients
    trainer_stage: ClassVar[str] = "similarity"
    reads_validation: ClassVar[bool] = True

    def __init__(self, context: Context, fits: Fits) -> None:
        super().__init__(context, fits)
        self.vectors = ClipSimilarityPass(context, fits)
        self.probes = PairFits(context, fits.scoring)
        self.pairs: PairDataModule | None = None

    @property
    def tunes(self) -> bool:
        """No image-text model is tuned."""
        return False

    def others(self) -> dict[str, str]:
        """The encoder of the vectors."""
        return self.vectors.others()

    def read_samples(self) -> np.ndarray:
        """Mark the samples with an instruction about one image, (N,) bool."""
        return pairs_of(self.context.data.pool)

    def trained_on(self) -> np.ndarray:
        """Uids of the pairs that the probe is trained on: all outside the reference split."""
        pool = self.context.data.pool
        uids: np.ndarray = pool.uid[self.read_samples() & ~pool.reference]
        return uids

    def rests_on(self, reference: np.ndarray) -> dict[str, Any]:
        """Name the probe, the bank, the sketch, and the validation file."""
        plan, data = self.context.plan, self.context.data
        pool = data.pool
        uids = np.setdiff1d(pool.uid[self.read_samples()], reference)
        given = (
            None if plan.validation is None else source_beside(data, "validation", plan.validation)
        )
        return {
            "probe": self.probes.whole(uids, stage="reference", is_arm=False),
            "negatives": self.probes.keys.negatives,
            "sketch": [plan.gradient_width, plan.seed],
            **({"validation": fingerprint(given.fingerprint())} if given else {}),
        }

    def planned_work(self, reference: np.ndarray) -> list[PlannedWork]:
        """What the pass will do: the vectors, the probe, and the reading."""
        n = len(self.trained_on())
        fit = self.probes.planned_work(PROBE, n, stage="reference", is_arm=False)
        return [*self.vectors.planned_work(reference), *fit, *super().planned_work(reference)]

    def make(self, reference: np.ndarray) -> None:
        """Embed the pairs, train the probe, and read every pair."""
        self.vectors.make(reference)
        self.probes.run(PROBE, self.trained_on(), stage="reference", is_arm=False)
        super().make(reference)

    def served(self) -> BlockDataModule:
        """Return what serves the vectors."""
        assert self.pairs is not None
        return self.pairs

    def prepare(self, uids: np.ndarray) -> tuple[LightningModule, Blocks]:
        """Build the reader, and lay the vectors out for it."""
        plan, pool = self.context.plan, self.context.data.pool
        pairs = pair_vectors(self.context, pool.rows(uids))
        self.pairs = PairDataModule(pairs, block_size=self.context.data.block_size)
        probe = TwoTower.load(self.context.out / "models" / PROBE)
        reader = Reader(probe, self.bank(), plan.gradient_width, plan.seed)
        return reader, self.pairs.blocks

    def bank(self) -> Bank:
        """Draw the negatives: pairs of different pictures that the probe was trained on.

        Raises:
            UserError: all pairs show one picture, so that none has a negative.
        """
        pool, seed = self.context.data.pool, self.context.plan.seed
        rows = known_pairs(self.context, np.sort(pool.rows(self.trained_on())))
        rows = np.random.default_rng([seed, 8]).permutation(rows)
        _, first = np.unique(pictures(pool.image_digest[rows]), axis=0, return_index=True)
        if len(first) < 2:
            raise UserError(
                "signal `pair_gradients` needs pairs of two pictures or more outside the reference "
                "split; add annotations"
            )
        drawn = rows[np.sort(first)[: self.probes.keys.negatives]]
        found = pair_vectors(self.context, drawn)
        image, text = (torch.from_numpy(s.astype(np.float32)) for s in (found.image, found.text))
        return Bank(image, text, torch.from_numpy(found.picture))

    def beside(self, module: LightningModule, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take the gradients of the validation file; note the columns of each layer."""
        assert isinstance(module, Reader)
        context, meta = self.context, {"edges": module.edges().tolist()}
        if context.plan.validation is None:
            return {}, meta
        work = context.out / "work"
        given = source_beside(context.data, "validation", context.plan.validation)
        name = f"validation {context.plan.validation}"
        pool = pool_beside(given, work / f"{self.stage}-pool-{key}", name)
        found = embedded(context, pool, work / f"{self.stage}-vectors-{key}")
        has = pairs_of(pool)
        pairs = PairVectors(found["image"], found["text"], pool.image_digest[has])
        data = PairDataModule(pairs, block_size=context.data.block_size)
        writer = BlockWriter(work / f"{self.stage}-validation-{key}", data.blocks)
        trainer = context.factory.trainer(self.trainer_stage, context.out / "logs" / self.stage)
        writer.fill(trainer, module, data)
        if not rank_zero():
            return {}, meta
        merged = writer.merge()
        columns = {f"validation_{name}": merged[name] for name in ("direction", "length")}
        return {**columns, "validation_task": pool.task[has].astype(str)}, meta

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: less than a tenth of an image through its encoder."""
        return {"pair_gradients": work.pool / (10 * speed.features)}

    @staticmethod
    def disk(work: Work, hidden: int, encoder: int) -> int:
        """Bytes: a sketch in half precision, twice while its blocks are joined."""
        return 2 * 2 * work.gradient_width * work.pool
