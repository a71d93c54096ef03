"""CLIP-Score (ICML 2021): the images that match their text best."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.selectors.by_score import Keep, ScoreSelector, ordered_by
from presel_lightning.signals import ClipSimilarity, Signals


class ClipScore(ScoreSelector):
    r"""Select the highest cosines of an image and the text of its conversation.

    .. math:: \mathrm{score}_i = \cos(f_{image}(I_i), f_{text}(Q_i R_i))

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are ignored.

    Differences to its use on captions: the text is the whole conversation, cut off where the text
    tower ends (77 tokens in CLIP). The encoder is `stages.similarity.model.checkpoint`.

    Args:
        keep: `highest` cosines, `middle` or `lowest` first.

    Raises:
        UserError: `keep` is unknown.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", ICML 2021.
    """

    needs: ClassVar[tuple[str, ...]] = (ClipSimilarity.name,)
    reason = "image and text match"

    def __init__(self, keep: Keep = "highest") -> None:
        ordered_by(np.empty(0), keep, "selector.init_args.keep")
        self.keep = keep

    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Order the cosines; the seed is not used."""
        found = signals.clip_similarity(pool, np.arange(len(pool)), "similarity")
        return ordered_by(found, self.keep, "selector.init_args.keep")
