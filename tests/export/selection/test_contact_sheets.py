"""Contact sheets: the pages of a PDF hold the selected images of a task, best first."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.export.selection import contact_sheets
from presel_lightning.export.selection.contact_sheets import HEADING, MARGIN, SIDE, WIDE


def pages_of(path: Path) -> list[Image.Image]:
    """The page images of a PDF, which are JPEGs as they stand in it."""
    found = re.findall(rb"stream\r?\n(\xff\xd8.*?)\r?\nendstream", path.read_bytes(), re.DOTALL)
    return [Image.open(io.BytesIO(content)).convert("RGB") for content in found]


def selected(run: Path) -> dict[str, list[str]]:
    """Images of each task: best first, then the reference split by uid."""
    images = dict(
        zip(*(pq.read_table(run / "pool.parquet")[n].to_pylist() for n in ("uid", "image")))
    )
    rows = pq.read_table(run / "selection" / "selection.parquet").to_pylist()
    order = sorted(
        (row for row in rows if row["selected"]),
        key=lambda r: (r["reason"] == "reference split", -(r["score"] or 0), r["uid"]),
    )
    return {
        task: [images[row["uid"]] for row in order if row["task"] == task]
        for task in {row["task"] for row in order}
    }


def test_contact_sheets_show_each_task_best_first(
    finished: Path, pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheets, "ROWS", 1)
    arguments = ["export", "--run", str(finished), "--to", "contact-sheets"]
    assert main([*arguments, "--path", str(tmp_path / "sheets")]) == 0
    tasks = selected(finished)
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {f"{t}.pdf" for t in tasks}
    for task, images in tasks.items():
        pages = pages_of(tmp_path / "sheets" / f"{task}.pdf")
        assert len(pages) == -(-len(images) // 5)
        for number, name in enumerate(images):
            picture = Image.open(pool_folder / name).convert("RGB")
            left, bottom = MARGIN + number % 5 * WIDE, MARGIN + HEADING + SIDE
            box = (left, bottom - picture.height, left + picture.width, bottom)
            shown = np.asarray(pages[number // 5].crop(box), dtype=float)
            assert np.abs(shown - np.asarray(picture)).mean() < 12


def test_contact_sheets_of_images_that_are_gone_say_so(unlabelled: Path, tmp_path: Path) -> None:
    """Without instructions, and with a folder that holds none of the images."""
    (tmp_path / "empty").mkdir()
    out = tmp_path / "sheets"
    more = ["--to", "contact-sheets", "--path", str(out), "--image_root", str(tmp_path / "empty")]
    assert main(["export", "--run", str(unlabelled), *more]) == 0
    assert {path.stem for path in out.iterdir()} == set(selected(unlabelled))
    assert not (out / "left_out.csv").exists()
