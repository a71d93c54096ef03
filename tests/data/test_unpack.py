"""Packages are unpacked once, to names that are safe."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
import webdataset
from hypothesis import example, given
from hypothesis import strategies as st

from presel_lightning.cli.main import main
from presel_lightning.data import source
from presel_lightning.data.packages import Package
from presel_lightning.data.tars import tar_samples
from presel_lightning.data.unpack import safe_name, unpacked_before
from presel_lightning.errors import UserError
from tests.data.packed import picture, pool_of, tar


def test_unpack_second_run_reuses_the_unpacked_folder(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("1.png", picture(1))])
    out = tmp_path / "unpacked"
    first = source(str(path), unpacked=out)
    (image,) = first.image_root.rglob("*.png")
    marked = image.stat().st_mtime_ns - 10**9
    os.utime(image, ns=(marked, marked))
    (out / "0123.part").mkdir()  # of a start that was killed
    assert source(str(path), unpacked=out) == first and image.stat().st_mtime_ns == marked
    assert [each.name for each in out.iterdir() if each.is_dir()] == [first.image_root.parent.name]
    tar(path, [("1.png", picture(2)), ("2.png", picture(3))])
    again = source(str(path), unpacked=out)
    assert again != first and not first.image_root.exists()
    assert [entry.record["id"] for entry in again.entries()] == ["1", "2"]
    path.unlink()
    assert unpacked_before([path], out) == again.image_root
    assert unpacked_before([tmp_path / "b.tar"], out) is None


def test_unpack_interrupted_run_restarts_from_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tar(tmp_path / "a.tar", [("1.png", picture(1)), ("2.png", picture(2))])

    def killed(package: Package) -> Any:
        yield next(tar_samples(package.files[0], "task"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Package, "samples", killed)
        source(str(path), unpacked=tmp_path / "out")
    assert not list((tmp_path / "out").glob("*/origin.json"))
    where = source(str(path), unpacked=tmp_path / "out")
    assert [entry.record["id"] for entry in where.entries()] == ["1", "2"]


def test_unpack_uids_do_not_depend_on_path_or_time(tmp_path: Path) -> None:
    path = tar(tmp_path / "here" / "pool" / "a.tar", [("1.png", picture(1))])
    other = tmp_path / "there" / "pool" / "a.tar"
    other.parent.mkdir(parents=True)
    shutil.copy(path, other)
    uids = {pool_of(each, tmp_path / each.parts[-3] / "o")[0].uid[0] for each in (path, other)}
    assert len(uids) == 1


def test_folder_of_images_with_a_tar_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "1.png").write_bytes(picture(1))
    tar(tmp_path / "stray.tar", [])
    pool, odd = pool_of(tmp_path, tmp_path.with_name("out"))
    assert pool.image.tolist() == ["cats/1.png"] and not odd


def test_source_mixing_tar_and_json_raises_user_error(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("1.png", picture(1))])
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(UserError, match="cannot be mixed"):
        source([str(path), str(tmp_path / "a.json")], unpacked=tmp_path / "out")
    with pytest.raises(UserError, match=r"leave out data\.image_root"):
        source(str(path), str(tmp_path), unpacked=tmp_path / "out")


@example("\ud800")  # JSON can name it, no file system can
@given(st.text(st.characters(), max_size=300))
def test_safe_name_returns_a_relative_path_without_special_chars(name: str) -> None:
    safe = safe_name(name)
    if safe is None:
        return
    parts = safe.split("/")
    assert all(0 < len(part.encode()) <= 140 and part[0] != "." for part in parts)
    assert "\0" not in safe and not any(c in safe for c in '\\:*?"<>|')
    assert os.path.normpath(safe) == safe and not os.path.isabs(safe)
    assert safe_name(f"{name}?") != safe


@pytest.mark.parametrize("form", ["dataset", "tars"])
def test_select_packed_source_requests_instructions_and_exports(
    pool_folder: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    records = json.loads((pool_folder / "train.json").read_text())[:60]
    images = [(pool_folder / record["image"]).read_bytes() for record in records]
    place = tmp_path / "photos"
    if form == "dataset":
        names = sorted({record["task"] for record in records})
        table = {
            "image": [{"bytes": content, "path": None} for content in images],
            "kind": [names.index(record["task"]) for record in records],
        }
        kinds = {"image": datasets.Image(), "kind": datasets.ClassLabel(names=names)}
        data = datasets.Dataset.from_dict(table, features=datasets.Features(kinds))
        data.save_to_disk(place)
    else:
        place.mkdir()
        for shard in range(2):
            with webdataset.TarWriter(str(place / f"{shard}.tar")) as writer:
                for n in range(shard, 60, 2):
                    told = {"kind": records[n]["task"]}
                    writer.write({"__key__": f"{n}", "png": images[n], "json": told})
    out = tmp_path / "run"
    command = ["select", "--config", "quickstart.yaml", "--selector", "SizeBalanced"]
    command += ["--data.annotations", str(place), "--data.task_key", "kind"]
    command += ["--data.budget", "12", "--out", str(out)]
    assert main(command) == 3
    requests = [json.loads(line) for line in (out / "selection" / "requests.jsonl").open()]
    assert len(requests) == 12
    assert {request["task"] for request in requests} <= {record["task"] for record in records}
    capsys.readouterr()
    assert main(command) == 3
    assert "pool         reused" in capsys.readouterr().out
    shutil.rmtree(place)  # an export needs the run folder alone
    export = ["export", "--run", str(out), "--to", "csv", "--path", str(tmp_path / "list")]
    assert main(export) == 0
    assert "12 samples" in capsys.readouterr().out
