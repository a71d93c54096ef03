"""How well the image of every sample and the text of its conversation match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.signals.base import ColumnSignal


class ClipSimilarity(ColumnSignal):
    """`clip_similarity/`: columns over the samples of the pool that have an instruction.

    A sample with several images has none.

    - `similarity`: cosine of both vectors;
    - `image`, `text`: (D,) vectors of unit length, in half precision.
    """

    name: ClassVar[str] = "clip_similarity"
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "clip_similarity": ("signals/clip_similarity",)
    }
