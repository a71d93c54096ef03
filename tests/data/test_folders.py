from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.data import build_pool, source
from presel_lightning.data.folders import folder_files, folder_records


def test_folder_records_flat_folder_is_one_task(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "x.jpg").touch()
    assert list(folder_records(photos)) == [{"id": "x", "image": "x.jpg", "task": "photos"}]


def test_folder_records_are_sorted_and_skip_hidden_files(tmp_path: Path) -> None:
    for name in ("b/x.jpg", "a/sub/y.png", "a/.hidden", ".git/z.jpg", "a/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    assert list(folder_records(tmp_path)) == [
        {"id": "a/y", "image": "a/sub/y.png", "task": "a"},
        {"id": "b/x", "image": "b/x.jpg", "task": "b"},
        {"id": "linked", "image": "linked"},
    ]


def test_files_that_no_picture_tool_writes_are_passed_over_with_a_count(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")
    content = (tmp_path / "picture.png").read_bytes()
    (tmp_path / "picture.png").unlink()
    pictures = ["cats/1.png", "cats/2.dat", "cats/3", "dogs/1.PNG"]
    others = ["cats/Thumbs.db", "cats/desktop.ini", "cats/.DS_Store", "cats/._1.png"]
    others += [
        "cats/1.json",
        "cats/1.txt",
        "dogs/clip.MP4",
        "dogs/1.xmp",
        "list.csv",
        "cats/README",
    ]
    for name in (*pictures, *others, "dogs/broken.jpg", "dogs/empty.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content if name in pictures else b"no picture")
    counts = build_pool(source(str(tmp_path)), tmp_path.with_name("out"))
    assert (counts.pool, counts.by_problem) == (4, {"not_an_image": 2})
    assert counts.passed_over == {
        "hidden": 2,
        **dict.fromkeys(["Thumbs.db", "desktop.ini", ".json", ".txt", ".mp4", ".xmp", ".csv"], 1),
        "without ending": 1,
    }


def test_text_that_begins_like_a_bitmap_is_no_picture(tmp_path: Path) -> None:
    for name, text in (("a.txt", "BMW, not a bitmap at all"), ("b.txt", "P1 of the plan")):
        (tmp_path / name).write_text(text)
    assert folder_files(tmp_path) == []


def test_select_prints_what_was_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(40):
        (tmp_path / "photos" / "cats").mkdir(parents=True, exist_ok=True)
        place = tmp_path / "photos" / "cats" / f"{number}.png"
        Image.new("RGB", (4, 4), (number, 0, 0)).save(place)
        place.with_suffix(".json").write_text("{}")
    command = ["select", "--config", "quickstart.yaml", "--selector", "Random"]
    command += ["--data.annotations", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]
    assert main(command) == 3
    assert "passed over, no pictures: 40 .json" in capsys.readouterr().out
    assert (tmp_path / "run" / "problems.csv").read_text().count("\n") == 1


def linked_tasks(tmp_path: Path) -> Path:
    """Two tasks on another disk, linked into a folder; one links back to what lies around it."""
    for task in ("coco", "gqa"):
        (tmp_path / "disk" / task).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(
                tmp_path / "disk" / task / f"{number}.png"
            )
    photos = tmp_path / "photos"
    photos.mkdir()
    for task in ("coco", "gqa"):
        (photos / task).symlink_to(tmp_path / "disk" / task)
    (tmp_path / "disk" / "gqa" / "back").symlink_to(photos)
    return photos


def test_folder_files_follow_links_on_request_and_end(tmp_path: Path) -> None:
    photos = linked_tasks(tmp_path)
    assert folder_files(photos) == ["coco", "gqa"]
    images = [f"{task}/{number}.png" for task in ("coco", "gqa") for number in range(3)]
    assert folder_files(photos, follow_links=True) == sorted([*images, "gqa/back"])


def test_select_with_linked_folders_names_a_cure_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = linked_tasks(tmp_path)
    (tmp_path / "disk" / "gqa" / "back").unlink()
    command = ["select", "--config", "photos.yaml", "--selector", "SizeBalanced"]
    command += ["--data.annotations", str(photos), "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "data.follow_links to true" in capsys.readouterr().err
    assert main([*command, "--data.budget", "4", "--data.follow_links", "true"]) == 3
    assert str(photos.resolve()) in "".join(capsys.readouterr().out.split())
    assert len(pq.read_table(tmp_path / "run" / "pool.parquet")) == 6
    out = tmp_path / "out"
    export = ["export", "--run", str(tmp_path / "run"), "--to", "webdataset", "--path", str(out)]
    assert main(export) == 0
    assert not (out / "left_out.csv").exists()


def test_folder_with_a_name_that_is_no_utf8_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("größe.jpg".encode("latin-1"), b"plain.jpg"):
        with open(os.fsencode(tmp_path / "photos") + b"/" + name, "wb") as handle:
            Image.new("RGB", (4, 4)).save(handle, "JPEG")
    counts = build_pool(source(str(tmp_path / "photos")), tmp_path / "out")
    assert (counts.pool, counts.by_problem) == (1, {"not_unicode": 1})
