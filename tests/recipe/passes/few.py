"""A small part of the pool of the tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def first_records(pool_folder: Path, folder: Path, each: int) -> list[dict[str, Any]]:
    """Copy the images of the pool, and return the first records of each task."""
    shutil.copytree(pool_folder / "images", folder / "images")
    records = json.loads((pool_folder / "train.json").read_text())
    tasks = ("colour", "shape", "count", "caption")
    return [r for task in tasks for r in [r for r in records if r["task"] == task][:each]]
