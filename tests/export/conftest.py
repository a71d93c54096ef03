"""Runs to export from: the finished one, and one whose images have no instruction yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from presel_lightning.cli.main import main


@pytest.fixture(scope="session")
def selected(finished: Path) -> list[dict[str, Any]]:
    """The records of the finished run's selection."""
    records: list[dict[str, Any]] = json.loads(
        (finished / "selection" / "selected.json").read_text()
    )
    assert len(records) > 20
    return records


@pytest.fixture(scope="session")
def unlabelled(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `select` on records of which only every second one is annotated."""
    folder = tmp_path_factory.mktemp("unlabelled")
    records = json.loads((pool_folder / "train.json").read_text())
    for record in records[::2]:
        del record["conversations"]
    (folder / "records.json").write_text(json.dumps(records))
    assert (
        main(
            [
                "select",
                "--config",
                "quickstart.yaml",
                "--selector",
                "Random",
                "--data.annotations",
                str(folder / "records.json"),
                "--data.image_root",
                str(pool_folder),
                "--data.budget",
                "20",
                "--out",
                str(folder / "run"),
            ]
        )
        == 3
    )
    return folder / "run"
