"""What the page says of an image: its instruction, its cluster, its losses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from presel_lightning.eval.report.conversations import Conversations
from presel_lightning.eval.report.samples import REFERENCE


def items_of(run: Path) -> list[dict[str, Any]]:
    report = json.loads((run / "report" / "report.json").read_text())
    items: list[dict[str, Any]] = report["gallery"]["items"]
    return items


def test_items_have_the_instruction_of_the_annotation_file(
    finished: Path, pool_folder: Path
) -> None:
    records = json.loads((pool_folder / "train.json").read_text())
    by_image = {record["image"]: record["conversations"] for record in records}
    for item in items_of(finished):
        turns = by_image[item["image"]]
        questions = [turn["value"].replace("<image>", "").strip() for turn in turns[::2]]
        answers = [turn["value"] for turn in turns[1::2]]
        assert item["turns"] == [list(pair) for pair in zip(questions, answers)][:3]
        assert item["more_turns"] == max(0, len(questions) - 3)


def test_items_have_losses_and_counts_of_their_cluster(finished: Path) -> None:
    losses = {
        row["uid"]: [row["loss_with_question"], row["loss_without_question"]]
        for row in pq.read_table(finished / "signals" / "paired_loss.parquet").to_pylist()
    }
    rows = pq.read_table(finished / "selection" / "selection.parquet").to_pylist()
    items = items_of(finished)
    assert any(item["kind"] == REFERENCE for item in items)
    for item in items:
        assert ("losses" in item) == (item["uid"] in losses) == (item["kind"] == REFERENCE)
        if "losses" in item:
            assert item["losses"] == pytest.approx(losses[item["uid"]], abs=1e-4)
        mates = [r for r in rows if (r["task"], r["cluster"]) == (item["task"], item["cluster"])]
        assert item["cluster_size"] == len(mates)
        assert item["cluster_selected"] == sum(row["selected"] for row in mates)


def test_hidden_instructions_are_not_shown(finished: Path, tmp_path: Path) -> None:
    """`FromPool` reveals those that were asked for; the page shows no others."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    uid = items_of(finished)[0]["uid"]
    assert Conversations(out).turns(uid)
    (out / "annotations").mkdir(exist_ok=True)
    (out / "annotations" / "access.jsonl").touch()
    assert Conversations(out).turns(uid) == []
    said = [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}]
    line = json.dumps({"uid": uid, "conversations": said}) + "\n"
    (out / "annotations" / "answers.jsonl").write_text(line)
    assert Conversations(out).turns(uid) == [("Q", "A")]


def test_report_of_moved_images_is_refused_until_they_are_found(
    finished: Path, pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(finished, out)
    shutil.copytree(pool_folder, moved)
    config = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(config.replace(str(pool_folder), str(tmp_path / "gone")))
    page = out / "report" / "index.html"
    page.unlink()
    assert main(["report", "--run", str(out)]) == 2
    assert "--image_root" in capsys.readouterr().err and not page.exists()
    assert main(["report", "--run", str(out), "--image_root", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "none of its images can be opened below" in said and "--image_root DIR" in said
    assert main(["report", "--run", str(out), "--image_root", "nowhere"]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err and not page.exists()
    assert main(["report", "--run", str(out), "--image_root", str(moved)]) == 0
    assert page.read_text().count("data:image/webp") > 50
    assert main(["report", "--run", str(out), "--image_root", "none"]) == 0
    assert "data:image/webp" not in page.read_text()
    assert main(["report", "--diff", str(out), str(out), "--image_root", str(moved)]) == 2
    assert "--image_root requires --run" in capsys.readouterr().err
