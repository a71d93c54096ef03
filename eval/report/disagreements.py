"""Questions that the final model answered right and another arm wrong, or the reverse."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from presel_lightning.eval.benchmarks.predictions import predictions_path, read_predictions

Json = dict[str, Any]

MOST = 20
"""Questions shown of a benchmark and a pair of arms."""
MOST_CHARACTERS = 300
"""Of a text that is shown."""
RIGHT = 0.5
"""Credit from which on an answer counts as right, where a benchmark gives part of it."""
ARM = "final"
"""The arm that the others are compared with."""


def read_disagreements(out: Path, scores: Mapping[str, Json]) -> dict[str, list[Json]]:
    """Return by benchmark what the final model and each other arm answered differently.

    Args:
        out: the run folder.
        scores: content of each arm's file of scores; predictions of another model are ignored.

    Returns:
        For each benchmark with predictions, a row for each other arm: `against`, `gained` and `lost`
        (questions that only the final model, and only the other arm, got right), and `items`.
    """
    keys = {arm: found["key"] for arm, found in scores.items() if "key" in found}
    if ARM not in keys:
        return {}
    own = read_predictions(predictions_path(out, ARM), keys[ARM])
    found: dict[str, list[Json]] = {}
    for arm in (arm for arm in keys if arm != ARM):
        theirs = read_predictions(predictions_path(out, arm), keys[arm])
        for name in (name for name in own if name in theirs):
            if own[name]["item"].equals(theirs[name]["item"]):
                row = {"against": arm, **disagreements(own[name], theirs[name])}
                found.setdefault(name, []).append(row)
    return found


def disagreements(own: pa.Table, other: pa.Table) -> Json:
    """Count and choose the questions that only one of two models got right.

    Both directions are shown in equal numbers as far as there are so many. A question comes before
    another by a digest of its name: a fixed random order, the same for all pairs.

    Args:
        own: predictions of one model on one benchmark.
        other: those of another, in the same order.
    """
    right, rival = (_credit(table) for table in (own, other))
    known = ~(np.isnan(right) | np.isnan(rival))
    right, rival = right >= RIGHT, rival >= RIGHT
    names = own["item"].to_pylist()
    gained, lost = (
        sorted(np.flatnonzero(known & rows).tolist(), key=lambda row: _order(names[row]))
        for rows in (right & ~rival, rival & ~right)
    )
    half = MOST // 2
    shown = gained[: max(half, MOST - len(lost))] + lost[: max(half, MOST - len(gained))]
    items = own.append_column("other", other["prediction"]).take(pa.array(shown, pa.int64()))
    texts = ("item", "task", "question", "answer", "prediction", "other")
    return {
        "gained": len(gained),
        "lost": len(lost),
        "items": [
            {**{name: _cut(item[name]) for name in texts}, "right": item["credit"] >= RIGHT}
            for item in items.to_pylist()
        ],
    }


def _credit(table: pa.Table) -> np.ndarray:
    values: np.ndarray = table["credit"].cast(pa.float64()).to_numpy()
    return values


def _order(item: str) -> bytes:
    return hashlib.sha256(item.encode()).digest()


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
