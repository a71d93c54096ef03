"""Fields that records bring of their own: kept beside ours, and their uids on request."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from presel_lightning.records import own_fields

Record = dict[str, Any]
OWN = {"task": "mine", "score": 0.25, "rank": "gold", "cluster": "c9", "reason": "human"}


def start(folder: Path, root: Path, *more: str) -> list[str]:
    arguments = ["select", "--config", "quickstart.yaml", "--selector", "Random"]
    arguments += ["--data.annotations", str(folder / "a.json"), "--data.image_root", str(root)]
    return [*arguments, "--data.budget", "6", "--out", str(folder / "run"), *more]


@pytest.fixture(scope="module")
def folder(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on records with fields called as ours, and system prompts."""
    folder = tmp_path_factory.mktemp("own")
    records = json.loads((pool_folder / "train.json").read_text())[:16]
    for number, record in enumerate(records):
        record |= {**OWN, "uid": f"{number:032x}", "presel": {"weight": 7.0}}
        record[("system", "system_prompt")[number % 2]] = f"Answer {number}."
    (folder / "a.json").write_text(json.dumps(records))
    assert main(start(folder, pool_folder, "--data.task_rules", "[{task: by-rule}]")) == 0
    return folder


def export(folder: Path, to: str, *more: str) -> Path:
    path = folder / "-".join((to, *more))
    if path.exists():
        return path
    assert (
        main(["export", "--run", str(folder / "run"), "--to", to, "--path", str(path), *more]) == 0
    )
    return path


def originals(folder: Path) -> dict[str, Record]:
    return {r["uid"]: r for r in json.loads((folder / "a.json").read_text())}


def webdataset_records(path: Path) -> list[Record]:
    found = []
    with tarfile.open(next(path.glob("*.tar"))) as tar:
        for member in tar:
            if member.name.endswith(".json"):
                handle = tar.extractfile(member)
                assert handle is not None
                found.append(json.load(handle))
    return found


def test_own_fields_of_records_are_kept(folder: Path) -> None:
    known = originals(folder)
    selected = json.loads((folder / "run" / "selection" / "selected.json").read_text())
    for records in (
        selected,
        json.loads((export(folder, "llava-json") / "selection.json").read_text()),
        webdataset_records(export(folder, "webdataset")),
    ):
        assert len(records) == 6
        for record in records:
            first = known[record["uid"]]
            for name in (*OWN, "uid", "id", "conversations", "system", "system_prompt"):
                assert record.get(name) == first.get(name)
            assert own_fields(record)["task"] == "by-rule"
            assert own_fields(record)["uid"] != record["uid"]
            assert own_fields(record).get("weight") != 7.0


def test_exports_name_samples_by_their_own_uids_on_request(folder: Path) -> None:
    known, own = set(originals(folder)), ("--uids", "own")
    with (export(folder, "csv", *own) / "selection.csv").open(newline="") as handle:
        uids = {row["uid"] for row in csv.DictReader(handle)}
    assert len(uids) == 6 and uids <= known
    pairs = np.load(export(folder, "npy", *own) / "uids.npy").tolist()
    assert {f"{high:016x}{low:016x}" for high, low in pairs} == uids
    lines = (export(folder, "ms-swift", *own) / "train.jsonl").read_text().splitlines()
    assert {json.loads(line)["uid"] for line in lines} == uids
    lines = (export(folder, "ms-swift") / "train.jsonl").read_text().splitlines()
    assert not {json.loads(line)["uid"] for line in lines} & known
    run = ["export", "--run", str(folder / "run"), "--to", "csv", "--path", str(folder / "x")]
    assert main([*run, "--uids", "theirs"]) == 2


def test_exports_carry_the_system_prompt(folder: Path) -> None:
    known = originals(folder)
    own = ("--uids", "own")

    def prompt(uid: str) -> str:
        record = known[uid]
        text: str = record.get("system") or record["system_prompt"]
        return text

    rows = json.loads((export(folder, "llama-factory", *own) / "selection.json").read_text())
    assert [row["system"] for row in rows] == [prompt(row["uid"]) for row in rows]
    for line in (export(folder, "ms-swift", *own) / "train.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["messages"][0] == {"role": "system", "content": prompt(row["uid"])}
    shard = next((export(folder, "trl", *own) / "data").iterdir())
    for row in pq.read_table(shard).to_pylist():
        assert row["messages"][0]["role"] == "system"
        assert row["messages"][0]["content"][0]["text"] == prompt(row["uid"])


def test_trl_export_is_read_back_as_a_pool(folder: Path, tmp_path: Path) -> None:
    data = ["--data.annotations", str(export(folder, "trl", "--shard_mb", "9") / "data")]
    arguments = ["select", "--config", "quickstart.yaml", "--selector", "Random", *data]
    assert main([*arguments, "--data.budget", "1.0", "--out", str(tmp_path / "run")]) == 0
    again = json.loads((tmp_path / "run" / "selection" / "selected.json").read_text())
    first = json.loads((folder / "run" / "selection" / "selected.json").read_text())
    wanted = {r["presel"]["uid"]: r["conversations"] for r in first}
    assert {r["uid"]: r["conversations"] for r in again} == wanted
    assert all(r["system"].startswith("Answer") for r in again)


def test_answers_with_foreign_uids_are_matched_by_image(folder: Path, pool_folder: Path) -> None:
    other = folder / "bare"
    other.mkdir()
    records = list(originals(folder).values())
    answers = [{k: v for k, v in r.items() if k != "presel"} for r in records]
    answers[0]["conversations"][1]["value"] = 0
    (other / "answers.json").write_text(json.dumps(answers))
    bare = [{k: r[k] for k in ("id", "uid", "task", "image")} for r in records]
    (other / "a.json").write_text(json.dumps(bare))
    command = start(other, pool_folder)
    assert main(command) == 3
    given = f"--annotator.init_args.path={other / 'answers.json'}"
    assert main([*command, "--data.budget", "1.0", "--annotator", "FromFile", given]) == 0
    selected = json.loads((other / "run" / "selection" / "selected.json").read_text())
    said = {r["image"]: r["conversations"][1]["value"] for r in selected}
    assert len(said) == len(records) and said[records[0]["image"]] == "0"
