"""Batches of requests for an annotation tool; every request is in one batch only."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from presel_lightning.annotators.base import Request
from presel_lightning.annotators.journal import Journal
from presel_lightning.run.line_file import LineFile

Write = Callable[[Path, Sequence[Request]], None]
"""Writes a batch into its own folder."""


def write_batch(
    folder: Path, requests: Sequence[Request], journal: Journal, write: Write
) -> list[Path]:
    """Write the requests that are in no batch yet as a new batch.

    Args:
        folder: folder of the tool; its `given_out.jsonl` holds the batch of every sample.
        requests: all requests.
        journal: answers so far.
        write: writes a batch.

    Returns:
        The folders of the batches with missing answers.
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
