"""The stages that make what selectors choose by; each signal once, in blocks that can be resumed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import numpy as np

from presel_lightning.callbacks import BlockWriter
from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.eval.irs import IRSLoop
from presel_lightning.models.llava_processor import load_image_processor
from presel_lightning.recipe.fits import UNSCORED, Fitting
from presel_lightning.run.fingerprint import digest_lines, fingerprint
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.stages import Facts, devices_of
from presel_lightning.signals.base import (
    FEATURES,
    HELD_OUT_LOSS,
    ON_REFERENCE,
    PAIRED_LOSS,
    FeatureTable,
)
from presel_lightning.tasks import FineTune


class SignalStages(Fitting):
    """What a recipe needs to make its signals."""

    def make_signals(self, needs: Iterable[str], reference: np.ndarray) -> None:
        """Make these signals, as far as they do not lie there.

        Raises:
            InstructionsMissing: one rests on the reference split, which has no instructions yet.
        """
        if ON_REFERENCE & set(needs):
            self.require_instructions(reference, "reference split")
        if PAIRED_LOSS in needs:
            self.fit_model("reference", reference, stage="reference")
            self.losses(reference)
        if HELD_OUT_LOSS in needs:
            self.held_out(reference)
        if FEATURES in needs:
            self.features()

    def losses(self, reference: np.ndarray) -> None:
        """The IRS loop over the reference split."""
        model = self.trained("losses", self.out / "models" / "reference")
        key = self.keys["losses"] = self.key_of_losses(reference)

        def work() -> Facts:
            trainer = self.factory.trainer("losses", self.out / "logs" / "losses")
            loop = IRSLoop(self.out / "work" / f"losses-{key}-{self.blocks}")
            table = loop.run(trainer, model, self.data, reference)
            if rank_zero():
                self.signals.write_paired_loss(table)
                self.clear("losses-*")
            undefined = table["irs"].null_count
            facts = {"samples": len(reference), **devices_of(trainer)}
            return {**facts, **({"undefined": undefined} if undefined else {})}

        files = [self.signals.paired_loss_path]
        self.runner.stage("losses", key, files, work, together=True)

    def key_of_losses(self, reference: np.ndarray) -> str:
        """Name the paired losses by the reference fit and what they are computed in."""
        fit = self.key_of_fit("reference", reference, stage="reference")
        how = self.how(self.factory.model("losses", tune="none"))
        return fingerprint({"losses": 1, "model": fit, "how": how})

    def known_losses(self, reference: np.ndarray) -> str | None:
        """Key of the paired losses that lie there, if this run would make the same."""
        path = self.signals.paired_loss_path
        if not (len(reference) and path.exists()):
            return None
        key = self.keys.get("losses") or self.key_of_losses(reference)
        return key if self.runner.ledger.is_done("losses", key, [path]) else None

    def held_out(self, reference: np.ndarray) -> None:
        """Cross-fitting: each half of the reference split, scored by a model of the other half.

        The pre-instruction model scores all of it too, so that what a little training has changed
        can be told.
        """
        if len(reference) < 2:
            raise UserError(
                f"data.reference is {self.data.reference} ({len(reference)} sample), and held-out "
                "losses are made of two halves; raise it"
            )
        halves = halves_of(self.data.pool, reference, self.plan.seed)
        for name, half in zip(UNSCORED[1:], halves, strict=True):
            self.fit_model(name, half, stage="final")
        start = self.factory.model("losses", tune="none")
        key = self.keys["held_out"] = fingerprint(
            {
                "held_out": 1,
                "start": start.fingerprint()["checkpoint"],
                "models": [self.keys[name] for name in UNSCORED[1:]],
                "how": self.how(start),
            }
        )

        def work() -> Facts:
            models = [
                start,
                *(self.trained("losses", self.out / "models" / n) for n in UNSCORED[1:]),
            ]
            parts = [reference, *reversed(halves)]  # a model never scores what it was tuned on
            tables = []
            for number, (model, uids) in enumerate(zip(models, parts, strict=True)):
                folder = self.out / "work" / f"held-out-{key}-{number}-{self.blocks}"
                trainer = self.factory.trainer("losses", self.out / "logs" / "held_out")
                tables.append(IRSLoop(folder).run(trainer, model, self.data, uids))
            if rank_zero():
                self.signals.write_held_out_loss(*tables)
                self.clear("held-out-*")
            return {"samples": len(reference), **devices_of(trainer)}

        files = [self.signals.held_out_loss_path]
        self.runner.stage("held_out", key, files, work, together=True)

    def features(self) -> None:
        """Embed every distinct image once; what lies there of an earlier round is used again."""
        module, pool = self.factory.embed(), self.data.pool
        images, first, place = np.unique(pool.image, return_index=True, return_inverse=True)
        sizes = pool.image_bytes[first]
        encoder = fingerprint([module.fingerprint(), self.precision("features")])
        what = digest_lines(f"{image} {size}" for image, size in zip(images, sizes, strict=True))
        key = self.keys["features"] = fingerprint(
            {"features": 2, "encoder": encoder, "images": what}
        )

        def work() -> Facts:
            known = broadcast(lambda: self.signals.known_features(encoder, images, sizes))
            new = np.flatnonzero(known < 0)
            # what is known may change between two starts, and the blocks with it
            blocks = f"{self.data.block_size}-{digest_lines(images[new])}"
            folder = self.out / "work" / f"features-{key}-{blocks}"
            paths = [pool.image_root / image for image in images[new]]
            writer = BlockWriter(
                folder, self.data.show(paths, load_image_processor(module.checkpoint))
            )
            trainer = self.factory.trainer("features", self.out / "logs" / "features")
            writer.fill(trainer, module, self.data)
            if rank_zero():
                embedded = writer.merge()["features"] if len(new) else np.empty((0, 0))
                meta = {"encoder": module.checkpoint, "key": encoder}
                table = FeatureTable(pool.uid, images, sizes, place)
                self.signals.write_features(table, embedded, known, meta)
                self.clear("features-*")
            again = {"reused": int((known >= 0).sum())} if (known >= 0).any() else {}
            return {"images": len(images), **again, **devices_of(trainer)}

        files = [self.signals.features_path]
        # samples may share an image, so the rows depend on more than the images
        rows = fingerprint([key, digest_lines(pool.uid)])
        self.runner.stage("features", rows, files, work, together=True)

    def how(self, model: FineTune) -> list[str]:
        """What the numbers of a loss pass are computed in."""
        return [model.dtype_name, str(model.quantization), self.precision("losses")]

    @property
    def blocks(self) -> str:
        """What a list of samples is cut into the blocks of a loss pass by."""
        return f"{self.data.block_size}-{self.data.block_tokens}"

    def clear(self, pattern: str) -> None:
        """Take away the blocks of a pass that is done, and of those that were given up."""
        for leftover in (self.out / "work").glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)

    def precision(self, stage: str) -> str:
        """What a pass of a stage computes in."""
        return str(self.factory.trainer_settings(stage)["precision"])


def halves_of(pool: Pool, reference: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal each task's reference samples to two halves in turn, in an order drawn by seed."""
    rows = pool.rows(reference)
    order = np.random.default_rng([seed, 2]).permutation(rows)
    order = order[np.argsort(pool.task[order].astype(str), kind="stable")]
    return pool.uid[np.sort(order[0::2])], pool.uid[np.sort(order[1::2])]
