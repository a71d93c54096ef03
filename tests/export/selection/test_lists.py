"""LLaVA JSON, LLaMA-Factory, ms-swift: read back as those tools read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.export.selection.target import questions
from presel_lightning.records import Turn

Records = list[dict[str, Any]]
FILES = {
    "llava-json": "selection.json",
    "llama-factory": "selection.json",
    "ms-swift": "train.jsonl",
}


def export(run: Path, to: str, path: Path, *more: str) -> Path:
    assert main(["export", "--run", str(run), "--to", to, "--path", str(path), *more]) == 0
    return path


def rows_of(file: Path, cache: Path) -> Records:
    """As `datasets` reads JSON: one schema for all rows, or none."""
    loaded = load_dataset("json", data_files=str(file), split="train", cache_dir=str(cache))
    return list(loaded)


def test_llava_json_export_has_records_with_absolute_paths(
    finished: Path, selected: Records, pool_folder: Path, tmp_path: Path
) -> None:
    out = export(finished, "llava-json", tmp_path / "out")
    found = json.loads((out / "selection.json").read_text())
    root = pool_folder.resolve()
    assert found == [{**each, "image": str(root / each["image"])} for each in selected]
    assert [path.name for path in out.iterdir()] == ["selection.json"]


def test_llama_factory_export_matches_its_dataset_info(
    finished: Path, selected: Records, pool_folder: Path, tmp_path: Path
) -> None:
    """Columns and tags are looked up as LLaMA-Factory's ShareGPT converter does."""
    out = export(finished, "llama-factory", tmp_path / "out")
    (description,) = json.loads((out / "dataset_info.json").read_text()).values()
    assert description["formatting"] == "sharegpt"
    columns, tags = description["columns"], description["tags"]
    rows = rows_of(out / description["file_name"], tmp_path / "cache")
    assert [row["uid"] for row in rows] == [each["uid"] for each in selected]
    for row, record in zip(rows, selected, strict=True):
        (image,) = row[columns["images"]]
        assert image == str(pool_folder.resolve() / record["image"])
        chat = row[columns["messages"]]
        roles = [entry[tags["role_tag"]] for entry in chat]
        assert roles == [tags["user_tag"], tags["assistant_tag"]] * (len(chat) // 2)
        texts = [entry[tags["content_tag"]] for entry in chat]
        assert "".join(texts).count("<image>") == 1
        assert texts == [entry["value"] for entry in record["conversations"]]


def test_ms_swift_export_has_messages_and_absolute_images(
    finished: Path, selected: Records, tmp_path: Path
) -> None:
    rows = rows_of(
        export(finished, "ms-swift", tmp_path / "out") / "train.jsonl", tmp_path / "cache"
    )
    assert [row["uid"] for row in rows] == [each["uid"] for each in selected]
    for row, record in zip(rows, selected, strict=True):
        (image,) = row["images"]
        assert Path(image).is_absolute() and Image.open(image).size[0] > 0
        roles = {"user": "human", "assistant": "gpt"}
        told = [{"from": roles[m["role"]], "value": m["content"]} for m in row["messages"]]
        assert told == record["conversations"]


@pytest.mark.parametrize("way", ["copy", "link"])
@pytest.mark.parametrize("to", FILES)
def test_export_images_option_copies_or_links_them(
    to: str, way: str, finished: Path, selected: Records, pool_folder: Path, tmp_path: Path
) -> None:
    out = export(finished, to, tmp_path / "out", "--images", way)
    text = (out / FILES[to]).read_text()
    records = [json.loads(line) for line in text.splitlines()] if to == "ms-swift" else None
    for row, record in zip(records or json.loads(text), selected, strict=True):
        (name,) = row.get("images") or [row["image"]]
        assert Path(name).is_absolute() == (to == "ms-swift")
        place = out / name
        assert place.is_relative_to(out / "images") and place.is_symlink() == (way == "link")
        assert place.read_bytes() == (pool_folder / record["image"]).read_bytes()


def test_export_copies_a_shared_image_once(pool_folder: Path, tmp_path: Path) -> None:
    records = json.loads((pool_folder / "train.json").read_text())[:4]
    for number, record in enumerate(records):
        record["id"], record["image"] = str(number), records[0]["image"]
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    shutil.copy(pool_folder / records[0]["image"], source / "images")
    (source / "records.json").write_text(json.dumps(records))
    arguments = ["--selector", "Random", "--data.budget", "1.0", "--out", str(tmp_path / "run")]
    annotations = ["--data.annotations", str(source / "records.json")]
    assert main(["select", "--config", "quickstart.yaml", *annotations, *arguments]) == 0
    out = export(tmp_path / "run", "llava-json", tmp_path / "out", "--images", "copy")
    assert len(json.loads((out / "selection.json").read_text())) == 4
    assert len([path for path in (out / "images").rglob("*") if path.is_file()]) == 1


def test_questions_place_the_image_token_once() -> None:
    assert questions([Turn("", "a"), Turn("b?", "c")]) == [("<image>", "a"), ("b?", "c")]
    assert questions([Turn("q", "a")]) == [("<image>\nq", "a")]
    later = [Turn("q", "a"), Turn("b?", "c", image_here=True)]
    assert questions(later) == [("q", "a"), ("<image>\nb?", "c")]


@pytest.mark.parametrize(("to", "word"), [("llama-factory", "<video>"), ("ms-swift", "<bbox>")])
def test_words_that_a_tool_counts_as_places_are_left_out(
    finished: Path, selected: Records, pool_folder: Path, tmp_path: Path, to: str, word: str
) -> None:
    run = tmp_path / "run"
    for part in ("config.yaml", "run.json", "selection"):
        copy = shutil.copytree if (finished / part).is_dir() else shutil.copyfile
        run.mkdir(exist_ok=True)
        copy(finished / part, run / part)
    records = json.loads((run / "selection/selected.json").read_text())
    records[3]["conversations"][1]["value"] = f"The {word} element."
    (run / "selection/selected.json").write_text(json.dumps(records))
    out = export(run, to, tmp_path / "out", "--image_root", str(pool_folder))
    assert word not in (out / FILES[to]).read_text()
    listed = (out / "left_out.csv").read_text()
    assert "placeholder_in_text" in listed and listed.count("\n") == 2 and word in listed
