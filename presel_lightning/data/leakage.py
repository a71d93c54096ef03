"""Images and questions that a pool shares with a benchmark."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from presel_lightning.data.copies import NEAR
from presel_lightning.run.files import replacing

SAME_FILE, LOOKS_ALIKE, EMBEDDING, QUESTION = "same_file", "looks_alike", "embedding", "question"
"""Kinds of leaks: equal bytes, near perceptual hashes, near features, a shared n-gram."""
BLOCK = 1 << 24
"""Pairs that are compared at a time."""
FREQUENT = 0.05
"""Share of a benchmark's items from which on a line is the benchmark's own wording."""
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Leak:
    """A sample of the pool that shares something with a benchmark; a line of `leakage.csv`."""

    uid: str
    id: str
    image: str
    task: str
    kind: str
    benchmark: str
    item: str
    """Id of the benchmark's item."""
    detail: str


class BenchmarkItem(NamedTuple):
    """An item of a benchmark.

    Attributes:
        benchmark: name of its file.
        item: its id.
        image: its image; an item of several images comes once with each.
        question: its text.
    """

    benchmark: str
    item: str
    image: Path | None
    question: str


def leakage_path(out: Path) -> Path:
    """`leakage.csv`: one line for each sample, benchmark, and kind of leak."""
    return out / "leakage.csv"


def write_leaks(path: Path, leaks: Iterable[Leak]) -> None:
    """Write leaks, sorted by benchmark and uid."""
    rows = sorted(map(astuple, leaks), key=lambda row: (row[5], row[4], row[0]))
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([field.name for field in fields(Leak)])
        writer.writerows(rows)


def same_files(pool: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Find equal files.

    Args:
        pool: (U,) 16 bytes that name the content of each image; zeros for one without a name.
        tested: (V,) those of the benchmark's images.

    Returns:
        (U,) place of an equal image among the tested ones, -1 where there is none.
    """
    places = {name.tobytes(): place for place, name in reversed(list(enumerate(tested)))}
    places.pop(bytes(16), None)
    found = (places.get(name.tobytes(), -1) for name in pool)
    return np.fromiter(found, np.int64, len(pool))


def alike(pool: np.ndarray, tested: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest perceptual hash, every one compared with every other.

    Args:
        pool: (U,) uint64 hashes; 0 where a picture has none.
        tested: (V,) those of the benchmark's images.

    Returns:
        (U,) place of the nearest tested image within `NEAR` bits, -1 where there is none, and (U,)
        bits in which they differ.
    """
    places, differ = np.full(len(pool), -1), np.full(len(pool), 64)
    usable = np.flatnonzero(tested)
    if not len(usable):
        return places, differ
    step = max(1, BLOCK // len(usable))
    for start in range(0, len(pool), step):
        part = pool[start : start + step]
        bits = np.bitwise_count(part[:, None] ^ tested[usable][None])  # (step, V)
        nearest = bits.argmin(axis=1)
        least = bits[np.arange(len(part)), nearest]
        near = (least <= NEAR) & (part != 0)
        places[start : start + step][near] = usable[nearest[near]]
        differ[start : start + step][near] = least[near]
    return places, differ


def similar(
    pool: np.ndarray, tested: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest features.

    Args:
        pool: (N, D) L2-normalised.
        tested: (V, D) L2-normalised.
        threshold: cosine from which on images count as the same.

    Returns:
        (N,) place of the nearest tested image, -1 where none reaches the threshold, and (N,) cosine.
    """
    places, best = np.full(len(pool), -1), np.zeros(len(pool))
    step = max(1, BLOCK // max(1, len(tested)))
    for start in range(0, len(pool), step):
        cosine = pool[start : start + step] @ tested.T
        nearest = cosine.argmax(axis=1)
        value = cosine[np.arange(len(cosine)), nearest]
        places[start : start + step] = np.where(value >= threshold, nearest, -1)
        best[start : start + step] = value
    return places, best


class SharedQuestions:
    """Finds n-grams of a benchmark's questions in other texts.

    Lines that many items of a benchmark have, such as how to answer, are its wording, and no leak.

    Args:
        items: of all benchmarks.
        n: words of an n-gram; a shorter question is not compared.
    """

    def __init__(self, items: Sequence[BenchmarkItem], n: int) -> None:
        self.n = n
        common = frequent_lines(items)
        self.grams: dict[tuple[str, ...], int] = {}
        self.short = 0
        for place, item in enumerate(items):
            lines = (l for l in item.question.splitlines() if (item.benchmark, l) not in common)
            found = list(grams(" ".join(lines), n))
            self.short += not found
            for gram in found:
                self.grams.setdefault(gram, place)

    def find(self, text: str) -> tuple[int, str] | None:
        """Return the place of an item that shares an n-gram with a text, and the n-gram."""
        for gram in grams(text, self.n):
            if (place := self.grams.get(gram)) is not None:
                return place, " ".join(gram)
        return None


def frequent_lines(items: Iterable[BenchmarkItem]) -> set[tuple[str, str]]:
    """Lines that more than `FREQUENT` of a benchmark's items have, and more than two of them."""
    sizes: Counter[str] = Counter()
    lines: Counter[tuple[str, str]] = Counter()
    for item in items:
        sizes[item.benchmark] += 1
        lines.update({(item.benchmark, line) for line in item.question.splitlines()})
    return {line for line, n in lines.items() if n > max(2, FREQUENT * sizes[line[0]])}


def grams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    """All n-grams of a text's words, in lower case without punctuation."""
    words = WORD.findall(text.lower())
    return zip(*(words[start:] for start in range(n)), strict=False)
