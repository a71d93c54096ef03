"""The fit of an arm in the setting of image-text pairs: a two-tower probe on stored vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning import Callback, Trainer

from presel_lightning.errors import UserError
from presel_lightning.loading.pairs import PairDataModule, PairVectors
from presel_lightning.recipe.artifacts import records_digest, weights_digest
from presel_lightning.recipe.context import Context
from presel_lightning.recipe.fits import Fits, Task
from presel_lightning.recipe.plan import TwoTowerKeys
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.stages import Facts
from presel_lightning.signals import ClipSimilarity
from presel_lightning.tasks import TwoTower


class PairFits(Fits):
    """Trains a two-tower probe on some pairs, once for each arm; no language model is loaded.

    The stage `reference` is the warm-up of a signal's probe, with epochs of its own.
    """

    rate: ClassVar[str] = "two_tower.lr"
    needs: ClassVar[tuple[str, ...]] = (ClipSimilarity.name,)

    @property
    def keys(self) -> TwoTowerKeys:
        """Options of the probe."""
        return self.context.plan.two_tower or TwoTowerKeys()

    def examine(self, stage: str) -> None:
        """There is always something to train."""

    def keeps_moments(self, stage: str) -> bool:
        """Gradients of pairs are taken as they are."""
        return False

    def warmup_checkpoints(self, stage: str) -> int:
        """Gradients of pairs are taken at the end of the warm-up."""
        return 1

    def epochs(self, stage: str) -> int:
        """Epochs of the fits of a stage."""
        return self.keys.warmup_epochs if stage == "reference" else self.keys.epochs

    def trainer(self, stage: str, folder: Path, callbacks: Sequence[Callback]) -> Trainer:
        """Build the Trainer of a fit; `trainer.max_steps` goes before the epochs of `two_tower`."""
        trainer = super().trainer(stage, folder, callbacks)
        if trainer.max_steps == -1:
            trainer.fit_loop.max_epochs = self.epochs(stage)
        return trainer

    def serve(
        self,
        name: str,
        uids: np.ndarray,
        *,
        stage: str,
        is_arm: bool,
        weights: Mapping[str, float] | None,
    ) -> Task:
        """Build the probe, and serve the vectors of the pairs to its fit.

        Raises:
            UserError: there are fewer than two pairs with vectors.
        """
        plan, data, keys = self.context.plan, self.context.data, self.keys
        rows = np.sort(data.pool.rows(uids))
        known = known_pairs(self.context, rows)
        missing = len(rows) - len(known)
        if len(known) < 2:
            raise UserError(
                f"{name}: {len(known)} of {len(rows)} samples have an image and a text to train on; a "
                "contrastive loss needs two: add annotations, or raise data.budget"
            )
        in_loss, chances = data.weigh(known, weights or {})
        pairs = pair_vectors(self.context, known, in_loss)
        module = TwoTower(
            pairs.image.shape[1],
            keys.hidden,
            keys.dimension,
            keys.temperature,
            keys.lr,
            keys.weight_decay,
            seed=plan.seed,
        )
        facts: Facts = {
            **({"weights": data.weights} if weights else {}),
            **({"without_vectors": missing} if missing else {}),
        }
        served = PairDataModule(pairs, keys.batch_size, seed=plan.seed, chances=chances)
        return Task(module, served, facts)

    def whole(
        self,
        uids: np.ndarray,
        *,
        stage: str,
        is_arm: bool,
        weights: Mapping[str, float] | None = None,
    ) -> str:
        """Name a fit to its end by all that its result depends on; see `run`."""
        data, keys = self.context.data, self.keys
        return fingerprint(
            {
                "pair_fit": 1,
                "vectors": vectors_by(self.context),
                "probe": self.probe(),
                "epochs": self.epochs(stage),
                "batch_size": keys.batch_size,
                "trainer": self.context.factory.trainer_settings(stage),
                "seed": self.context.plan.seed,
                "records": records_digest(data.pool, uids),
                **({"weights": [data.weights, weights_digest(weights)]} if weights else {}),
            }
        )

    def probe(self) -> list[float]:
        """Name the probe and its optimizer."""
        keys = self.keys
        shape = [keys.hidden, keys.dimension, keys.temperature]
        return [*shape, keys.lr, keys.weight_decay]

    def kind(self, stage: str) -> str:
        """Both stages train the same heads."""
        return "fit of a probe"

    def planned_steps(self, stage: str, n: int) -> float:
        """Compute the steps of a fit of so many pairs; `trainer.max_steps` ends it earlier."""
        most = int(self.context.factory.trainer_settings(stage)["max_steps"])
        steps = self.epochs(stage) * ceil(n / self.keys.batch_size)
        return steps if most < 0 else most

    def steps(self, n: int) -> int:
        """Compute the training steps of an arm of so many pairs."""
        return self.epochs("final") * ceil(n / self.keys.batch_size)

    def rests_on(self, world: int) -> Any:  # noqa: ANN401 - any JSON value
        """Name the vectors and the probe; a fit is the same on any number of processes."""
        return [vectors_by(self.context), self.probe()]


def vectors_by(context: Context) -> list[Any]:
    """Name what the vectors of pairs are computed by: encoder, precision, and reading of images."""
    precision = str(context.factory.trainer_settings("similarity")["precision"])
    return [context.factory.similarity().fingerprint(), precision, context.data.pixels]


def known_pairs(context: Context, rows: np.ndarray) -> np.ndarray:
    """Return the rows of the pool whose image and text both have a vector, in their order."""
    pool = context.data.pool
    similarity = context.signals.of(ClipSimilarity).read(pool, rows, "similarity")
    known: np.ndarray = rows[np.isfinite(similarity)]
    return known


def pair_vectors(
    context: Context, rows: np.ndarray, weights: np.ndarray | None = None
) -> PairVectors:
    """Read the vectors of some rows of the pool."""
    pool, signal = context.data.pool, context.signals.of(ClipSimilarity)
    image, text = (signal.read(pool, rows, side).astype(np.float16) for side in ("image", "text"))
    return PairVectors(image, text, pool.image_digest[rows], weights)
