from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from presel_lightning.annotators import Request
from tests.annotators.names import PoolNames
from tests.annotators.server import KEY, colour

Make = Callable[[int], tuple[list[Request], PoolNames]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Requests for `count` images of a pool of twice as many."""

    def build(count: int) -> tuple[list[Request], PoolNames]:
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for number in range(count):
            Image.new("RGB", (24, 24), colour(number)).save(folder / f"{number}.png")
        names = PoolNames(
            uid=np.array([f"{number:032x}" for number in range(2 * count)], dtype=object),
            id=np.array([f"id-{number}" for number in range(2 * count)], dtype=object),
            image=np.array([f"{number}.png" for number in range(2 * count)], dtype=object),
            task=np.array(["vqa", "caption"] * count, dtype=object),
        )
        requests = [
            Request(
                uid=names.uid[row],
                id=names.id[row],
                image=names.image[row],
                path=folder / names.image[row],
                task=names.task[row],
                prompt=f"prompt of {names.task[row]}",
                why="reference split",
            )
            for row in range(count)
        ]
        return requests, names

    return build
