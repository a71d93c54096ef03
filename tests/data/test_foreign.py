"""What people give as `data.annotations` that holds no records: one line with the cure."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from presel_lightning.cli.main import main

SELECT = ["select", "--config", "photos.yaml", "--selector", "SizeBalanced"]


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/1.png", b"1")
    return buffer.getvalue()


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {
    "photos.zip": (zipped(), "unpack it"),
    "table.xlsx": (zipped(), "save the table as CSV"),
    "pool.json": (zipped(), "a zip archive"),
    "pool.json.gz": (gzip.compress(b"[]"), "unpack it"),
    "one.png": (png(), "give the folder that holds the images"),
    "paper.pdf": (b"%PDF-1.4\n", "save its pages as images"),
    "film.mp4": (b"\0\0\0\x18ftypmp42", "a video"),
    "wide.json": ("[]".encode("utf-16"), "save it in UTF-8"),
    "lfs.json": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "page.csv": (b"<!DOCTYPE html>\n", "a web page"),
    "lost.json": (bytes(4096), "a file of zeros"),
    "coco.json": (b'{"images": [], "annotations": []}', "write a list of records"),
    "notes.txt": (b"hello\n", "expected a JSON list of records"),
    "empty.jsonl": (b"", "is empty"),
    "none.json": (b"[]", "give a folder with a folder of images"),
    "none.csv": (b"image,task\n", "or a table with `image`"),
}


@pytest.mark.parametrize("name", FILES)
def test_file_without_records_is_refused_with_its_cure(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    content, cure = FILES[name]
    (tmp_path / name).write_bytes(content)
    arguments = ["--data.annotations", str(tmp_path / name), "--out", str(tmp_path / "out")]
    assert main([*SELECT, *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert cure in error and (name in error or "problems.csv" in error)


def test_folder_without_images_is_refused_with_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4", "c.pdf"):
        (tmp_path / "clips" / name).write_bytes(b"%PDF")
    for command in ("select", "check"):
        arguments = ["--data.annotations", str(tmp_path / "clips"), "--out", str(tmp_path / "out")]
        assert main([command, *SELECT[1:], *arguments]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "clips holds no image record" in error and "2 .mp4, 1 .pdf" in error
        assert "a folder of images (JPEG, PNG" in error


def test_small_budget_names_the_tasks_without_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    for number in range(12):
        place = tmp_path / "photos" / f"task-{number % 6}" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 9, 0, 0)).save(place)
    arguments = ["--data.annotations", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    assert main([*SELECT, *arguments, "--data.budget", "4"]) == 3
    told = capsys.readouterr()
    assert "no sample of 2 of 6 tasks is selected" in told.out + told.err
    assert "raise data.budget" in told.out + told.err
    assert main([*SELECT, *arguments, "--data.budget", "6"]) == 3
    told = capsys.readouterr()
    assert "tasks is selected" not in told.out + told.err
    assert main([*SELECT, *arguments, "--data.budget", "15%"]) == 2
    assert "'15%' is invalid" in (error := capsys.readouterr().err) and "such as 0.15" in error
