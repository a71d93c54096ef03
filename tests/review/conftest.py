from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import make_once
from tests.review.runs import make_photos, select

if TYPE_CHECKING:
    from playwright.sync_api import Browser


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium; nothing is downloaded."""
    from tests.browser import chromium  # the server's tests need no browser

    with chromium() as found:
        yield found
