"""What the page says of an image that is opened: instruction, cluster, losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from presel_lightning.eval.report.conversations import Conversations
from presel_lightning.eval.report.samples import LEFT_OUT, Samples
from presel_lightning.signals import PairedLoss

Json = dict[str, Any]

TURNS = 3
LONGEST = 400
"""Maximum turns of an instruction on the page, and characters of a question or an answer."""
LOSSES = ("loss_with_question", "loss_without_question")


def with_details(out: Path, samples: Samples, items: list[Json]) -> list[Json]:
    """Add to images what is known of them.

    Args:
        out: run folder.
        samples: its samples.
        items: images of the page, with `uid`, `task` and `cluster`.

    Returns:
        The items, each with `turns` (question and answer, shortened) and `more_turns`; where there
        are clusters, `cluster_size` and `cluster_selected`; of the reference split `losses`, with
        and without the question.
    """
    conversations, clusters = Conversations(out), _clusters(samples)
    losses = _losses(out, [item["uid"] for item in items])
    found = []
    for item in items:
        turns = conversations.turns(item["uid"])
        facts: Json = {
            "turns": [[_short(text) for text in turn] for turn in turns[:TURNS]],
            "more_turns": max(0, len(turns) - TURNS),
        }
        if item["cluster"] is not None:
            size, selected = clusters[item["task"], item["cluster"]]
            facts |= {"cluster_size": size, "cluster_selected": selected}
        if item["uid"] in losses:
            facts["losses"] = losses[item["uid"]]
        found.append({**item, **facts})
    return found


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _clusters(samples: Samples) -> dict[tuple[str, int], tuple[int, int]]:
    """Count the images of each cluster of a task, and the selected ones, reference split included."""
    pairs, place, sizes = np.unique(
        np.column_stack([samples.task, samples.cluster]),
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    selected = np.bincount(place.reshape(-1)[samples.kind != LEFT_OUT], minlength=len(pairs))
    rows = zip(pairs.tolist(), sizes.tolist(), selected.tolist(), strict=True)
    return {(samples.tasks[task], cluster): (n, m) for (task, cluster), n, m in rows}


def _losses(out: Path, uids: list[str]) -> dict[str, list[float]]:
    """Read both losses of the samples that have them; those that are not finite are left out."""
    path = PairedLoss(out / "signals").path
    if not path.is_file() or "uid" not in pq.read_schema(path).names:
        return {}
    table = pq.read_table(path, columns=["uid", *LOSSES])
    table = table.filter(pc.is_in(table["uid"], value_set=pa.array(uids, pa.string())))
    for name in LOSSES:
        table = table.filter(pc.is_finite(table[name]))
    rows = table.to_pylist()
    return {row["uid"]: [round(row[name], 4) for name in LOSSES] for row in rows}
