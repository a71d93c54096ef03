"""Tar shards that the webdataset package reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import webdataset
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.export.selection.pictures import ending
from presel_lightning.export.selection.webdataset import WebDataset


def export(run: Path, path: Path) -> list[Path]:
    assert main(["export", "--run", str(run), "--to", "webdataset", "--path", str(path)]) == 0
    return sorted(path.glob("*.tar"))


def read(shards: list[Path]) -> list[dict[str, Any]]:
    urls = [str(shard) for shard in shards]
    return list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("pil"))


def test_webdataset_export_round_trip_keeps_samples_by_uid(
    finished: Path, selected: list[dict[str, Any]], pool_folder: Path, tmp_path: Path
) -> None:
    samples = read(export(finished, tmp_path / "out"))
    assert [each["__key__"] for each in samples] == [each["uid"] for each in selected]
    for each, record in zip(samples, selected, strict=True):
        ours = each["json"].pop("presel")
        assert {"score", "cluster", "rank", "reason"} <= set(ours)
        assert ours["uid"] == record.pop("presel")["uid"] and record.items() <= each["json"].items()
        with Image.open(pool_folder / record["image"]) as original:
            assert each["png"].tobytes() == original.convert("RGB").tobytes()


def test_webdataset_export_shards_are_deterministic(
    finished: Path, selected: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WebDataset, "shard_bytes", 20_000)
    once, twice = export(finished, tmp_path / "1"), export(finished, tmp_path / "2")
    assert [shard.name for shard in once[:2]] == ["00000000.tar", "00000001.tar"]
    assert [shard.read_bytes() for shard in once] == [shard.read_bytes() for shard in twice]
    assert [each["__key__"] for each in read(once)] == [each["uid"] for each in selected]


def test_webdataset_export_holds_unannotated_images(unlabelled: Path, tmp_path: Path) -> None:
    samples = read(export(unlabelled, tmp_path / "out"))
    assert len(samples) == 20
    assert 0 < sum(bool(each["json"].get("conversations")) for each in samples) < 20


def test_webdataset_image_without_suffix_gets_one_by_content(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "photo", format="JPEG")
    assert ending(tmp_path / "photo") == ".jpg"
