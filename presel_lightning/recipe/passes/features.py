"""Features of every distinct image, in blocks that can be resumed."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np
from lightning import Trainer

from presel_lightning.recipe.passes.base import Pass, Throughput, Work
from presel_lightning.run.fingerprint import digest_lines, fingerprint
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.stages import Facts, devices_of
from presel_lightning.run.time_left import PlannedWork
from presel_lightning.signals import Features, Signal
from presel_lightning.signals.features import FeatureTable
from presel_lightning.tasks.block_writer import BlockWriter


class FeaturesPass(Pass):
    """Embeds every distinct image once; what an earlier round embedded is used again."""

    signal: ClassVar[type[Signal]] = Features

    def key(self, reference: np.ndarray) -> str:
        """Name the features by encoder and images, and by the samples that show them.

        The number format of `dtype: auto` is that of the device that computes them. Features that
        lie there whole serve on any device; those that were begun are not continued in another format.
        """
        # samples may share an image, so the rows depend on more than the images
        samples = digest_lines(self.context.data.pool.uid)
        path = self.context.signals.of(Features).path
        keys = [
            fingerprint([self._images_key(device), samples])
            for device in (self._device, "cpu", "cuda")
        ]
        whole = (k for k in keys if self.context.runner.ledger.is_done(self.stage, k, [path]))
        return next(whole, keys[0])

    def planned_work(self, reference: np.ndarray) -> list[PlannedWork]:
        """What the pass will do: embed every distinct image."""
        return [PlannedWork(self.stage, self.stage, len(self._table.images))]

    def make(self, reference: np.ndarray) -> None:
        """Embed every image whose features do not lie there."""
        context, signal = self.context, self.context.signals.of(Features)
        module, pool, trainer = context.factory.embed(), context.data.pool, self._trainer
        table = self._table
        encoder, images_key, key = broadcast(
            lambda: (
                self._encoder_key(self._device),
                self._images_key(self._device),
                self.key(reference),
            )
        )
        context.keys[self.stage] = key

        def work() -> Facts:
            devices = context.runner.runs_on(devices_of(trainer))
            known = broadcast(lambda: signal.rows_of_images(encoder, table.digests))
            new = np.flatnonzero(known < 0)
            # what is known may change between two starts, and the blocks with it
            blocks = f"{context.data.block_size}-{digest_lines(table.images[new])}"
            folder = context.out / "work" / f"features-{images_key}-{blocks}"
            paths = [pool.file(str(image)) for image in table.images[new]]
            shown = context.data.show(paths, module.processor)
            writer = BlockWriter(folder, shown)
            writer.fill(trainer, module, context.data)
            if rank_zero():
                embedded = writer.merge()["features"] if len(new) else np.empty((0, 0))
                meta = {"encoder": module.checkpoint, "key": encoder}
                signal.write(table, embedded, known, meta)
                self.clear("features-*")
            again = {"reused": int((known >= 0).sum())} if (known >= 0).any() else {}
            return {"images": len(table.images), **again, **devices}

        context.runner.stage(self.stage, key, [signal.path], work, together=True)

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU, decoding included."""
        return {"features": work.images / speed.features}

    @staticmethod
    def disk(work: Work, hidden: int, encoder: int) -> int:
        """Bytes of the blocks of all distinct images, and of the features of all samples, float32."""
        return 4 * encoder * (work.images + work.pool)

    @cached_property
    def _trainer(self) -> Trainer:
        return self.context.factory.trainer("features", self.context.out / "logs" / "features")

    @property
    def _device(self) -> str:
        return self._trainer.strategy.root_device.type

    @cached_property
    def _table(self) -> FeatureTable:
        """The distinct images of the pool, and which sample shows which."""
        pool = self.context.data.pool
        if not pool.several:
            images, first, place = np.unique(pool.image, return_index=True, return_inverse=True)
            return FeatureTable(pool.uid, images, pool.image_digest[first], place)
        shown = {
            int(row): np.array(pool.several[uid], dtype=object)
            for row, uid in zip(pool.rows(pool.several), pool.several, strict=True)
        }
        images = np.unique(np.concatenate([pool.image, *shown.values()]))
        several = {row: np.searchsorted(images, names) for row, names in shown.items()}
        place = np.searchsorted(images, pool.image)
        return FeatureTable(pool.uid, images, pool.digests_of(images.tolist()), place, several)

    @cached_property
    def _images(self) -> str:
        """Name of the distinct images, by path and content."""
        contents = (digest.tobytes().hex() for digest in self._table.digests)
        return digest_lines(map("{} {}".format, self._table.images, contents))

    def _encoder_key(self, device: str) -> str:
        module = self.context.factory.embed()
        how = [self.precision("features"), self.context.data.pixels]
        return fingerprint([3, module.fingerprint(device), *how])

    def _images_key(self, device: str) -> str:
        encoder = self._encoder_key(device)
        return fingerprint({"features": 3, "encoder": encoder, "images": self._images})
