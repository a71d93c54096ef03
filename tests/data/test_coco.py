"""Captions in COCO's layout, and captions of any field, read as image-text pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from presel_lightning.data import build_pool, load_pool, source
from presel_lightning.data.annotations import read_entries, read_records
from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError

CAPTIONS: dict[str, Any] = {
    "info": {"description": "COCO 2017 Dataset", "year": 2017},
    "licenses": [{"id": 1, "name": "none"}],
    "images": [
        {"license": 1, "file_name": "000000000009.png", "height": 8, "width": 8, "id": 9},
        {"license": 1, "file_name": "000000000025.png", "height": 8, "width": 8, "id": 25},
    ],
    "annotations": [
        {"image_id": 25, "id": 3, "caption": "A giraffe eats."},
        {"image_id": 9, "id": 1, "caption": "A plate."},
        {"image_id": 9, "id": 2, "caption": "Broccoli in a „box“."},
    ],
}


def write(folder: Path, content: dict[str, Any], **options: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number in (9, 25):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number:012d}.png")
    path = folder / "captions_val2017.json"
    path.write_text(json.dumps(content, **options))  # type: ignore[arg-type]
    return path


def pool_of(path: Path, **options: str) -> Pool:
    out = path.parent.parent / "run"
    given = source(str(path), **options)  # type: ignore[arg-type]
    build_pool(given, out)
    return load_pool(out, given.image_root)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("first", ["info", "images", "annotations"])
def test_each_caption_of_coco_is_a_pair(tmp_path: Path, indent: int, first: str) -> None:
    ordered = {first: CAPTIONS[first], **CAPTIONS}
    pool = pool_of(write(tmp_path / "coco", ordered, indent=indent))
    found = {pool.id[row]: pool.sample(row) for row in range(len(pool))}
    assert {
        name: (s.image, s.turns[0].question, s.turns[0].answer) for name, s in found.items()
    } == {
        "1": ("000000000009.png", "", "A plate."),
        "2": ("000000000009.png", "", "Broccoli in a „box“."),
        "3": ("000000000025.png", "", "A giraffe eats."),
    }


def test_a_caption_of_no_image_is_a_problem_and_the_task_is_a_field(tmp_path: Path) -> None:
    content = {**CAPTIONS, "annotations": [*CAPTIONS["annotations"], {"image_id": 7, "id": 8}]}
    content["images"][0]["group"] = "food"
    entries = list(read_entries(write(tmp_path / "coco", content), "group"))
    assert [entry.record.get("group") for entry in entries] == [None, "food", "food", None]
    assert entries[3].fault is not None
    assert "no image 7" in entries[3].fault.detail


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"info": {}, "annotations": [], "images": [', "is no JSON"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"bbox": []}]}',
            "captions_",
        ),
    ],
)
def test_what_is_no_file_of_captions_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        list(read_records(path))


def test_records_with_images_of_their_own_are_json_lines(tmp_path: Path) -> None:
    record = {"images": ["a.jpg"], "messages": [{"role": "user", "content": "a"}]}
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(record)}\n" * 2)
    assert len(list(read_entries(path))) == 2


@pytest.mark.parametrize("key", ["type", "info", "annotations", "categories"])
@pytest.mark.parametrize("lines", [1, 2])
def test_json_lines_may_begin_with_a_key_of_coco(tmp_path: Path, key: str, lines: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps({key: 'vqa', 'image': 'a.jpg'})}\n" * lines)
    assert [entry.record["image"] for entry in read_entries(path)] == ["a.jpg"] * lines


def test_a_field_may_hold_the_caption(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs", {})
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
    records = [
        {"id": "1", "image": "000000000009.png", "caption": "A plate."},
        {"id": "2", "image": "000000000025.png", "caption": "A dog.", "conversations": said},
        {"id": "3", "image": "000000000025.png", "caption": ""},
    ]
    path.write_text(json.dumps(records))
    pool = pool_of(path, caption_key="caption")
    answers = {pool.id[r]: [t.answer for t in pool.sample(r).turns] for r in range(len(pool))}
    assert answers == {"1": ["A plate."], "2": ["A cat."], "3": []}
