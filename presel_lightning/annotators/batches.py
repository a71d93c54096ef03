"""Requests for a tool that people work in, given out in batches; none is given out twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from presel_lightning.annotators.base import Request
from presel_lightning.annotators.journal import Journal, LineFile

Write = Callable[[Path, Sequence[Request]], None]
"""Writes a batch into a folder of its own."""


def give_out(
    folder: Path, requests: Sequence[Request], journal: Journal, write: Write
) -> list[Path]:
    """Write what has not been given out yet as a new batch; the batches that are still open.

    Args:
        folder: of the tool; `given_out.jsonl` there tells which sample is in which batch.
        requests: what was asked for.
        journal: what has been answered.
        write: writes a batch.
    """
    log = LineFile(folder / "given_out.jsonl")
    batch_of: dict[str, int] = {}
    for line in log.lines:
        entry = json.loads(line)
        batch_of[entry["uid"]] = entry["batch"]
    missing = [request for request in requests if request.uid not in journal]
    new = [request for request in missing if request.uid not in batch_of]
    if new:
        number = max(batch_of.values(), default=0) + 1
        write(folder / f"batch-{number}", new)
        for request in new:
            log.append(json.dumps({"uid": request.uid, "batch": number}))
            batch_of[request.uid] = number
    log.close()
    return [folder / f"batch-{n}" for n in sorted({batch_of[r.uid] for r in missing})]
