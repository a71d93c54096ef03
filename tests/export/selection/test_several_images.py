"""Records with several images in every format: all of them, each with its place in the text."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.data import build_pool, load_pool, source

ASKED = "First: <image>\nSecond: <image>\nWhat differs?"
SHOWN = ["First: ", None, "\nSecond: ", None, "\nWhat differs?"]


def says(*texts: str) -> list[dict[str, str]]:
    return [
        {"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images, and a run that selects one record of two of them and one of each of the others."""
    folder = tmp_path_factory.mktemp("two")
    for number in range(4):
        Image.new("RGB", (9, 9), (number * 60, 0, 0)).save(folder / f"{number}.png")
    two = {"id": "two", "image": ["0.png", "1.png"], "conversations": says(ASKED, "A", "B?", "B")}
    ones = [
        {"id": f"one{n}", "image": f"{n}.png", "conversations": says("<image>\nQ", "A")}
        for n in (2, 3)
    ]
    (folder / "a.json").write_text(json.dumps([two, *ones]))
    arguments = ["--data.annotations", str(folder / "a.json"), "--data.several_images", "keep"]
    arguments += ["--data.budget", "3", "--selector", "Random", "--out", str(folder / "run")]
    assert main(["select", "--config", "quickstart.yaml", *arguments]) == 0
    return folder


def export(folder: Path, to: str, out: Path, *more: str) -> Path:
    run = str(folder / "run")
    assert main(["export", "--run", run, "--to", to, "--path", str(out), *more]) == 0
    assert not (out / "left_out.csv").exists()
    return out


def colours(contents: list[bytes | Path]) -> list[int]:
    opened = (Image.open(io.BytesIO(c) if isinstance(c, bytes) else c) for c in contents)
    return [image.convert("RGB").getpixel((0, 0))[0] // 60 for image in opened]  # type: ignore[index]


@pytest.mark.parametrize("way", ["none", "copy"])
def test_lists_hold_all_images_and_as_many_placeholders(
    folder: Path, tmp_path: Path, way: str
) -> None:
    found: dict[str, dict[str, Any]] = {}
    for to, name in (("llava-json", "selection.json"), ("llama-factory", "selection.json")):
        out = export(folder, to, tmp_path / to, "--images", way)
        rows = json.loads((out / name).read_text())
        (found[to],) = [
            row for row in rows if len(row.get("images", [])) > 1 or row.get("id") == "two"
        ]
        assert sum(isinstance(row.get("image"), str) for row in rows) in (0, 2)
    out = export(folder, "ms-swift", tmp_path / "ms", "--images", way)
    lines = map(json.loads, (out / "train.jsonl").read_text().splitlines())
    (found["ms-swift"],) = [line for line in lines if len(line["images"]) == 2]
    for to, row in found.items():
        images = row["image"] if to == "llava-json" else row["images"]
        assert colours([tmp_path / to / image for image in images]) == [0, 1]
        chat = row.get("conversations") or row["messages"]
        texts = [turn.get("value") or turn.get("content") for turn in chat]
        assert texts == [ASKED, "A", "B?", "B"]


def test_trl_dataset_holds_images_and_parts(folder: Path, tmp_path: Path) -> None:
    out = export(folder, "trl", tmp_path / "out")
    rows = load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    counts = {len(row["images"]): row for row in rows}
    assert sorted(counts) == [1, 2]
    first, *_ = counts[2]["messages"]
    assert [part["text"] for part in first["content"]] == SHOWN
    parts = [part["type"] for part in first["content"]]
    assert parts == ["text", "image", "text", "image", "text"]
    values = [image.convert("RGB").getpixel((0, 0))[0] // 60 for image in counts[2]["images"]]
    assert values == [0, 1]
    shown = [part["type"] for message in counts[1]["messages"] for part in message["content"]]
    assert shown.count("image") == 1


def test_webdataset_round_trip_is_the_same_pool(folder: Path, tmp_path: Path) -> None:
    out = export(folder, "webdataset", tmp_path / "out")
    where = source(str(out), unpacked=tmp_path / "unpacked", several_images="keep")
    counts = build_pool(where, tmp_path / "pool")
    assert (counts.pool, counts.problems) == (3, 0)
    pool = load_pool(tmp_path / "pool", where.image_root)
    (row,) = [row for row in range(3) if len(pool.images(row)) > 1]
    assert colours(list(pool.image_paths(row))) == [0, 1]
    again = load_pool(folder / "run", folder)
    (same,) = [row for row in range(3) if len(again.images(row)) > 1]
    assert pool.sample(row).turns == again.sample(same).turns


def test_csv_has_lists_where_there_are_several(folder: Path, tmp_path: Path) -> None:
    out = export(folder, "csv", tmp_path / "out")
    rows = {row["id"]: row for row in csv.DictReader((out / "selection.csv").open())}
    assert json.loads(rows["two"]["image"]) == ["0.png", "1.png"]
    assert colours(list(map(Path, json.loads(rows["two"]["path"])))) == [0, 1]
    assert rows["one2"]["image"] == "2.png"


def test_selection_of_a_list_of_images_is_read_back(folder: Path, tmp_path: Path) -> None:
    """By id and images alone, as another tool keeps them."""
    records = json.loads((folder / "a.json").read_text())
    (tmp_path / "list.json").write_text(json.dumps(records[:1]))
    arguments = ["--data.annotations", str(folder / "a.json"), "--data.several_images", "keep"]
    arguments += ["--data.budget", "3", "--out", str(tmp_path / "run")]
    arguments += ["--selector", "FromFile", "--selector.path", str(tmp_path / "list.json")]
    assert main(["select", "--config", "quickstart.yaml", *arguments]) == 0
    chosen = json.loads((tmp_path / "run" / "selection" / "selected.json").read_text())
    assert [record["id"] for record in chosen] == ["two"]


def test_gallery_shows_the_first_image_with_their_number(folder: Path) -> None:
    assert main(["report", "--run", str(folder / "run")]) == 0
    report = json.loads((folder / "run" / "report" / "report.json").read_text())
    shown = {item["image"]: item.get("n_images") for item in report["gallery"]["items"]}
    assert shown == {"0.png": 2, "2.png": None, "3.png": None}
