from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from presel_lightning.eval.report.selection_diff import compare_selections
from presel_lightning.eval.report.setup_diff import setup_differences
from tests.eval.report.runs import write_ledger, write_samples


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    for seed, name in enumerate(("one", "two")):
        write_samples(tmp_path / name, {"a": 100, "b": 60}, seed=seed)
        write_ledger(tmp_path / name, seed=seed)
        config = f"data: {{annotations: {tmp_path / name}, image_root: {tmp_path / name}}}\n"
        (tmp_path / name / "config.yaml").write_text(config)
    return tmp_path / "one", tmp_path / "two"


def taken(run: Path, task: str) -> dict[str, float | None]:
    rows = pq.read_table(run / "selection" / "selection.parquet").to_pylist()
    return {r["uid"]: r["score"] for r in rows if r["selected"] and r["task"] == task}


def test_compare_selections_counts_match_set_operations(runs: tuple[Path, Path]) -> None:
    found = compare_selections(*runs)
    shared = 0
    for row in found["tasks"]:
        mine, theirs = (taken(run, row["task"]) for run in runs)
        both = mine.keys() & theirs.keys()
        shared += len(both)
        assert (row["one"], row["other"], row["shared"]) == (len(mine), len(theirs), len(both))
        assert row["jaccard"] == len(both) / len(mine.keys() | theirs.keys())
        examples = [e["uid"] for e in row["only_one"]]
        assert examples and set(examples) <= mine.keys() - theirs.keys()
        scores = [e["score"] for e in row["only_one"] if e["score"] is not None]
        assert scores == sorted(scores, reverse=True)
    assert found["shared"] == shared and found["pool_shared"] == 160
    assert 0 < found["jaccard"] < 1


def test_compare_selections_with_itself_has_jaccard_one(runs: tuple[Path, Path]) -> None:
    found = compare_selections(runs[0], runs[0])
    assert found["jaccard"] == 1.0 and not any(row["only_one"] for row in found["tasks"])


def test_compare_selections_of_different_pools_is_reported(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    write_samples(tmp_path / "three", {"b": 50, "c": 20})
    found = compare_selections(runs[0], tmp_path / "three")
    assert [row["task"] for row in found["tasks"]] == ["a", "b", "c"]
    assert found["tasks"][0]["other"] == 0 and found["pool_shared"] == 70
    assert any(not e["in_other_pool"] for e in found["tasks"][0]["only_one"])


def test_report_diff_writes_page_and_json(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--diff", *map(str, runs)]) == 0
    place = runs[0] / "report" / "diff-two.html"
    assert str(place) in capsys.readouterr().out.replace("\n", "")
    html = place.read_text()
    assert html.count("data:image/webp") > 10 and "could not be opened" not in html
    assert html.count(".jpg</span></li>") == html.count('<li class="k1"')
    assert json.loads(place.with_suffix(".json").read_text())["shared"] > 0
    elsewhere = runs[0] / "x" / "page.html"
    assert main(["report", "--diff", *map(str, runs), "--out", str(elsewhere)]) == 0
    assert elsewhere.is_file()


def test_report_diff_says_what_differs_in_the_set_ups(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    common = "{trainer: {devices: 1}, benchmarks: [{init_args: {path: x}}], out: %s, %s}\n"
    (runs[0] / "config.yaml").write_text(common % ("a", "model: {lr: 0.1, lora: null}"))
    (runs[1] / "config.yaml").write_text(common % ("b", "baselines: [random, full], model: {lr: 0.2, lora: true}"))  # fmt: skip
    pool = {"pool": {"samples": 160, "problems": 0}}
    facts = {"about": {"pool": "photos", "encoder": "small"}, "versions": {"torch": "2.13.0"}}
    write_ledger(runs[0], **facts, stages=pool)
    facts = {"about": {"pool": "photos", "encoder": "large"}, "versions": {"torch": "2.12.0"}}
    write_ledger(runs[1], **facts, stages={"pool": {"samples": 160, "problems": 3}})
    assert main(["report", "--diff", *map(str, runs)]) == 0
    place = runs[0] / "report" / "diff-two.html"
    rows = json.loads(place.with_suffix(".json").read_text())["setup"]
    assert [tuple(row.values()) for row in rows] == [
        ("run", "encoder", "small", "large"),
        ("run", "left out", "0", "3"),
        ("configuration", "model.lr", "0.1", "0.2"),
        ("configuration", "model.lora", "null", "true"),
        ("configuration", "baselines", None, "random, full"),
        ("versions", "torch", "2.13.0", "2.12.0"),
    ]
    html, printed = place.read_text(), capsys.readouterr().out
    assert html.index("What differs in the set-ups") < html.index("Task by task")
    assert "model.lr: 0.1 | 0.2" in printed and "baselines: not there | random, full" in printed
    assert "not there</span>" in html and "{'" not in html.split("</style>")[1].split("<script>")[0]


def test_report_diff_says_that_a_person_reviewed_one_of_them(runs: tuple[Path, Path]) -> None:
    review = {"vetoed": 1, "pinned": 0}
    write_ledger(runs[0], stages={"selection": {**review, "decisions": "0123456789abcdef"}})
    write_ledger(runs[1])
    (row,) = (found for found in setup_differences(*runs) if found["part"] == "run")
    assert row["key"] == "vetoed and pinned by a person" and row["other"] is None
    assert row["one"] == "1 vetoed, 0 pinned (decisions 01234567)"
    write_ledger(runs[1], stages={"selection": {**review, "decisions": "f123456789abcdef"}})
    (row,) = (found for found in setup_differences(*runs) if found["part"] == "run")
    assert row["one"] != row["other"]


def test_report_diff_missing_images_are_reported(runs: tuple[Path, Path]) -> None:
    for run in runs:
        for image in (run / "images").iterdir():
            image.unlink()
    assert main(["report", "--diff", *map(str, runs)]) == 0
    html = (runs[0] / "report" / "diff-two.html").read_text()
    assert "data:image" not in html.split("</head>")[1] and "could not be opened" in html


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--run DIR, or --diff"),
        (["--run", "{one}", "--diff", "{one}", "{two}"], "--run DIR, or --diff"),
        (["--run", "{one}", "--out", "x.html"], "--out requires --diff"),
        (["--diff", "{one}", "nowhere"], "no selection there"),
        (["--diff", "{one}"], "--diff needs 2 values after it"),
    ],
)
def test_report_diff_invalid_arguments_exit_with_2(
    runs: tuple[Path, Path], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.format(one=runs[0], two=runs[1]) for word in words]
    assert main(["report", *given]) == 2
    assert message in capsys.readouterr().err


def test_compare_selections_without_scores_is_accepted(runs: tuple[Path, Path]) -> None:
    path = runs[1] / "selection" / "selection.parquet"
    table = pq.read_table(path)
    empty = pa.nulls(len(table), pa.float64())
    pq.write_table(table.set_column(3, "score", empty), path)
    found = compare_selections(*runs)
    assert all(e["score_there"] is None for row in found["tasks"] for e in row["only_one"])
