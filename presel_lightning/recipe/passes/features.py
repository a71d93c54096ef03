"""Features of every distinct image, in blocks that can be resumed."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.models.llava_processor import load_image_processor
from presel_lightning.recipe.passes.base import Pass, Throughput, Work
from presel_lightning.run.fingerprint import digest_lines, fingerprint
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.stages import Facts, devices_of
from presel_lightning.signals import Features, Signal
from presel_lightning.signals.features import FeatureTable
from presel_lightning.tasks.block_writer import BlockWriter


class FeaturesPass(Pass):
    """Embeds every distinct image once; what an earlier round embedded is used again."""

    signal: ClassVar[type[Signal]] = Features

    def key(self, reference: np.ndarray) -> str:
        """Name the features by encoder and images, and by the samples that show them."""
        # samples may share an image, so the rows depend on more than the images
        return fingerprint([self._images_key(), digest_lines(self.context.data.pool.uid)])

    def make(self, reference: np.ndarray) -> None:
        """Embed every image whose features do not lie there."""
        context, signal = self.context, self.context.signals.of(Features)
        module, pool = context.factory.embed(), context.data.pool
        table, encoder, images_key = self._table(), self._encoder_key(), self._images_key()
        key = context.keys["features"] = self.key(reference)

        def work() -> Facts:
            known = broadcast(lambda: signal.rows_of_images(encoder, table.images, table.sizes))
            new = np.flatnonzero(known < 0)
            # what is known may change between two starts, and the blocks with it
            blocks = f"{context.data.block_size}-{digest_lines(table.images[new])}"
            folder = context.out / "work" / f"features-{images_key}-{blocks}"
            paths = [pool.image_root / image for image in table.images[new]]
            shown = context.data.show(paths, load_image_processor(module.checkpoint))
            writer = BlockWriter(folder, shown)
            trainer = context.factory.trainer("features", context.out / "logs" / "features")
            writer.fill(trainer, module, context.data)
            if rank_zero():
                embedded = writer.merge()["features"] if len(new) else np.empty((0, 0))
                meta = {"encoder": module.checkpoint, "key": encoder}
                signal.write(table, embedded, known, meta)
                self.clear("features-*")
            again = {"reused": int((known >= 0).sum())} if (known >= 0).any() else {}
            return {"images": len(table.images), **again, **devices_of(trainer)}

        context.runner.stage("features", key, [signal.path], work, together=True)

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU, decoding included."""
        return {"features": work.images / speed.features}

    def _table(self) -> FeatureTable:
        """The distinct images of the pool, and which sample shows which."""
        pool = self.context.data.pool
        images, first, place = np.unique(pool.image, return_index=True, return_inverse=True)
        return FeatureTable(pool.uid, images, pool.image_bytes[first], place)

    def _encoder_key(self) -> str:
        module = self.context.factory.embed()
        how = [self.precision("features"), self.context.data.pixels]
        return fingerprint([module.fingerprint(), *how])

    def _images_key(self) -> str:
        table = self._table()
        what = digest_lines(map("{} {}".format, table.images, table.sizes))
        return fingerprint({"features": 2, "encoder": self._encoder_key(), "images": what})
