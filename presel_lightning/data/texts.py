"""The records without an image that are trained on beside the pool."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from presel_lightning.data.conversation import parse
from presel_lightning.data.pool import bytes16
from presel_lightning.data.record_file import RecordReader, read_facts, texts_path
from presel_lightning.records import Turn
from presel_lightning.run.fingerprint import digest_lines


class Texts:
    """Every text-only record, in the order of what it says: the order of rows never matters.

    Args:
        out: run folder that `build_pool` wrote with `text_only`.
        order: (T,) rows of the file, by default all in the order of what they say.

    Attributes:
        n_words: (T,) words of each conversation.
    """

    def __init__(self, out: Path, order: np.ndarray | None = None) -> None:
        self.out = out
        facts = read_facts(texts_path(out), ["n_words", "turns"])
        digests = bytes16(facts["turns"])
        self._order = np.argsort(digests, kind="stable") if order is None else order
        self._digests = digests[self._order]
        self.n_words: np.ndarray = facts["n_words"].to_numpy()[self._order]

    def __len__(self) -> int:
        """Number of records."""
        return len(self._order)

    def __reduce__(self) -> tuple[type[Texts], tuple[Path, np.ndarray]]:
        """Another process opens the file itself."""
        return Texts, (self.out, self._order)

    def without(self, left_out: np.ndarray) -> Texts:
        """Return the records that are not marked, (T,) bool."""
        return Texts(self.out, self._order[~left_out])

    @cached_property
    def _records(self) -> RecordReader:
        return RecordReader(texts_path(self.out))

    def turns(self, row: int) -> tuple[Turn, ...]:
        """One conversation."""
        return parse(self._records[int(self._order[row])])

    def digest(self) -> str:
        """Name all of them by what they say."""
        return digest_lines(digest.tobytes().hex() for digest in self._digests)
