from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from PIL import Image

import presel_lightning.data
from presel_lightning.cli.main import main
from presel_lightning.data.cures import CURES, cures_of

DOCS = Path(__file__).parents[2] / "docs" / "pool.md"


def kinds_in_source() -> set[str]:
    """First arguments of the faults that the readers of records raise."""
    kinds = set()
    for path in Path(presel_lightning.data.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "id", "")
            if isinstance(node, ast.Call) and name in ("Fault", "InvalidRecordError"):
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    kinds.add(first.value)
    return kinds


def test_every_kind_of_problem_has_a_cure_in_messages_and_in_the_docs() -> None:
    table = DOCS.read_text(encoding="utf-8").partition("## Problems")[2].partition("\n## ")[0]
    rows = [row.split(" | ") for row in table.splitlines() if row.startswith("| `")]
    documented = {row[0].strip("|` "): row[2] for row in rows}
    assert len(kinds_in_source()) > 15 and kinds_in_source() <= set(CURES)
    assert set(documented) == set(CURES)
    assert all(re.search(r"[a-z]{3}", cure) for cure in documented.values())


def test_cures_are_those_of_the_most_frequent_kinds() -> None:
    counts = {"empty": 1, "missing": 9, "oversized": 0, "truncated": 2, "bad_turn": 3}
    assert [part.split(":")[0] for part in cures_of(counts).split("; ")] == [
        "missing",
        "bad_turn",
        "truncated",
    ]


def test_refusal_of_too_many_problems_names_their_cures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    question = {"from": "human", "value": "<image>\n?"}
    changes: list[dict[str, object]] = [
        {"image": "elsewhere.png"},
        {"conversations": [question | {"from": "user"}]},
        {"conversations": [question]},
    ]
    records = [{"id": str(n), "image": "a.png", "task": "a", **c} for n, c in enumerate(changes)]
    path = tmp_path / "pool.json"
    path.write_text(json.dumps(records))
    arguments = ["select", "--config", "photos.yaml", "--selector", "SizeBalanced"]
    assert main([*arguments, "--data.annotations", str(path), "--out", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    for named in ("data.image_root", "human or gpt", "write the answer", "problems.csv"):
        assert named in error
    assert "data.max_problem_fraction" in error


def test_pool_without_a_usable_record_says_why_whatever_share_may_have_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "a.png")
    record = {"image": "images\\a.png", "task": "a", "conversations": []}
    (tmp_path / "pool.json").write_text(json.dumps([record]))
    arguments = ["select", "--config", "photos.yaml", "--selector", "SizeBalanced"]
    arguments += ["--data.annotations", str(tmp_path / "pool.json"), "--out", str(tmp_path / "o")]
    assert main([*arguments, "--data.max_problem_fraction", "1"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "1 of 1 records have problems (1 missing), and no image is left" in error
    assert "data.image_root" in error
    assert "divided by /" in (tmp_path / "o" / "problems.csv").read_text()
