from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import make_once
from tests.review.runs import make_photos, select


def make(folder: Path) -> None:
    make_photos(folder / "photos")
    assert select(folder / "photos", folder / "run") == 3


@pytest.fixture(scope="session")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photos/`, and `run/` that waits for the instructions of 12 of them."""
    return make_once(tmp_path_factory, "review", make)


@pytest.fixture
def run(waiting: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    shutil.copytree(waiting / "run", tmp_path / "run")
    return tmp_path / "run"
