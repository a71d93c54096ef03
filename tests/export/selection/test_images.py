"""The selected pictures in folders, and as a data set of images, with instructions and without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from PIL import Image

from presel_lightning.cli.main import main


def export(run: Path, to: str, out: Path, *more: str) -> int:
    code: int = main(["export", "--run", str(run), "--to", to, "--path", str(out), *more])
    return code


def records_of(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run / "selection" / "selected.json").read_text())
    return sorted(found, key=lambda record: record["presel"]["uid"])


@pytest.mark.parametrize("way", ["copy", "link"])
def test_pictures_lie_in_the_folder_of_their_task(
    way: str, unlabelled: Path, pool_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert export(unlabelled, "images", out, "--images", way) == 0
    expected = {
        f"{record['presel']['task']}/{record['image']}": pool_folder / record["image"]
        for record in records_of(unlabelled)
    }
    found = {str(file.relative_to(out)): file for file in out.rglob("*") if not file.is_dir()}
    assert set(found) == set(expected)
    for name, file in found.items():
        assert file.is_symlink() == (way == "link")
        assert file.read_bytes() == expected[name].read_bytes()


def test_pictures_that_would_stay_in_place_exit_with_2(
    unlabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(unlabelled, "images", tmp_path / "out", "--images", "none") == 2
    assert "choose copy or link" in capsys.readouterr().err


def test_data_set_of_images_has_the_instructions_that_there_are(
    unlabelled: Path, pool_folder: Path, tmp_path: Path
) -> None:
    assert export(unlabelled, "hf-dataset", tmp_path / "out") == 0
    rows = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    records = records_of(unlabelled)
    assert [row["uid"] for row in rows] == [record["presel"]["uid"] for record in records]
    for row, record in zip(rows, records, strict=True):
        (image,) = row["images"]
        with Image.open(pool_folder / record["image"]) as original:
            assert image.tobytes() == original.convert(image.mode).tobytes()
        turns = record.get("conversations", [])
        assert [turn["answer"] for turn in row["turns"]] == [t["value"] for t in turns[1::2]]
        assert (row["task"], row["id"]) == (record["presel"]["task"], str(record["id"]))
    assert {len(row["turns"]) > 0 for row in rows} == {True, False}
