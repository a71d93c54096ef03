"""Selection of one image after another by the distances to all selected before."""

from __future__ import annotations

from abc import abstractmethod
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.functional.farthest import Farthest
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector
from presel_lightning.selectors.by_score import select_in_order
from presel_lightning.selectors.embedding import Embedding, read_embedding, signal_of
from presel_lightning.signals import Signals


class CoverageSelector(Selector):
    """Base class: select one image after another by the distances to all selected before.

    The reference split counts as selected. A sample without an embedding comes last. The score is the
    distance to the nearest selected image: of a selected one when it was picked, of the others at
    the end.

    Args:
        embedding: `image`, features of the image encoder; or `joint`, image and text of the image-text
            encoder, which needs the instructions of the whole pool. None for `joint` where `two_tower`
            is set, else `image`.

    Raises:
        UserError: `embedding` is unknown.
    """

    reason: str

    def __init__(self, embedding: Embedding | None = None) -> None:
        known = get_args(Embedding)
        if embedding not in (None, *known):
            raise UserError(
                f"selector.init_args.embedding {embedding!r} is unknown; choose from {', '.join(known)}"
            )
        self.given = embedding
        self.measure_in(embedding or "image")

    def on_pairs(self) -> None:
        """Measure distances of images with their texts, unless another embedding is named."""
        self.measure_in(self.given or "joint")

    def measure_in(self, embedding: Embedding) -> None:
        """Set the embedding, and the signal that it is read from."""
        self.embedding = embedding
        self.needs = (signal_of(embedding),)  # type: ignore[misc]

    def fingerprint(self) -> object:
        """Return the embedding that is read, where it is not that of images alone."""
        return None if self.embedding == "image" else [self.embedding]

    @abstractmethod
    def pick(self, features: Tensor, count: int, selected: Tensor, seed: int) -> Farthest:
        """Pick `count` rows of features (N, D), given those selected before, (N,) bool."""

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Pick one row after another; those without an embedding follow by uid."""
        table = read_embedding(pool, signals, np.arange(len(pool)), self.embedding)  # (N, D)
        known = np.flatnonzero(np.isfinite(table).all(axis=1))
        selected = torch.from_numpy(pool.reference[known])
        count = min(budget, int((~selected).sum()))
        table = table if len(known) == len(table) else table[known]  # no copy where all are known
        found = self.pick(torch.from_numpy(table), count, selected, seed)
        score = np.full(len(pool), np.nan)
        score[known] = found.distance.numpy()
        picks, free = known[found.rows.numpy()], np.flatnonzero(~pool.reference)
        left = np.setdiff1d(free, picks)
        left = left[np.argsort(-score[left], kind="stable")]  # NaN sorts last
        order = np.concatenate([picks, left])
        return select_in_order(pool, order[:budget], order, score, self.reason)
