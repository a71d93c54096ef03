"""Reuse of another run folder's artifacts: links to its files, and copies of its stage records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from presel_lightning.run.ledger import FINISHED, Ledger

Made = Mapping[str, Sequence[str]]

POOL: Made = {
    "pool": (
        "pool.parquet",
        "problems.csv",
        "work/records.arrow",
        "work/order.npy",
        "work/images.parquet",
        "work/images.sqlite",
        "work/texts.arrow",
    )
}
"""The stages that make the pool, and the artifacts of each in a run folder."""
TEST: Made = {"test_pool": ("test",), "test": ("test",)}
"""The stages that read and embed the test pairs, where arms are scored by retrieval."""
SPLIT: Made = {"split": ("reference.json",)}
"""The stage that samples the reference split."""


def join(folder: Path, parent: Path, made: Made) -> dict[str, str]:
    """Link the artifacts of a parent's finished stages, so that they are reused.

    Returns:
        The fingerprint of each reused stage.
    """
    ledger, own = Ledger(parent / "run.json"), Ledger(folder / "run.json")
    taken = {}
    for stage, files in made.items():
        record = ledger.stage(stage)
        if record.get("status") not in FINISHED:
            continue
        for file in files:
            if (parent / file).exists():
                link(folder / file, parent / file)
        if own.stage(stage) != record:
            own.record(stage, **record)
        taken[stage] = record["fingerprint"]
    return taken


def link(place: Path, target: Path) -> None:
    """Make `place` a relative link to `target`, atomically."""
    place.parent.mkdir(parents=True, exist_ok=True)
    wanted = os.path.relpath(target.resolve(), place.parent.resolve())
    if place.is_symlink() and os.readlink(place) == wanted:
        return
    temporary = place.with_name(f".{place.name}.{os.getpid()}.link")
    temporary.unlink(missing_ok=True)  # of a start that was killed; containers number alike
    temporary.symlink_to(wanted)
    os.replace(temporary, place)
