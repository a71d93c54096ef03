"""The published tables: what they print follows from what they hold."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from pathlib import Path

import pytest
from rich.console import Console

from presel_lightning.errors import UserError
from presel_lightning.eval.intervals.published import full_scores, published_rows
from presel_lightning.eval.intervals.relative import benchmark_table, relative_performance
from presel_lightning.eval.report.report import print_summary, write_report

BENCHMARKS = ["VQAv2", "SQA-I", "TextVQA", "MME", "MMB-en", "MMB-cn", "SEED", "MM-Vet", "POPE"]
FOLDER = files("presel_lightning.eval").joinpath("published")
TABLES = sorted(file.name.removesuffix(".csv") for file in FOLDER.iterdir())


def rows_of(name: str) -> list[dict[str, str]]:
    text = FOLDER.joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def test_published_tables_are_all_shipped() -> None:
    assert TABLES == ["llava665k", "llava665k_13b", "llava665k_llama3", "vision_flan"]
    counts = [len({row["method"] for row in rows_of(name)}) for name in TABLES]
    assert counts == [10, 3, 3, 10]


@pytest.mark.parametrize("name", TABLES)
def test_published_relative_score_follows_from_its_scores(name: str) -> None:
    rows = rows_of(name)
    assert set(rows[0]) == {"method", "instructions", "benchmark", "score", "rel", "source"}
    assert all(row["source"].startswith("PreSel (CVPR 2025, arXiv 2503.07591)") for row in rows)
    full = full_scores(f"published:{name}")
    assert list(full) == BENCHMARKS
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        assert [row["benchmark"] for row in own] == BENCHMARKS
        (printed,) = {float(row["rel"]) for row in own}
        scores = {row["benchmark"]: float(row["score"]) for row in own}
        assert relative_performance(scores, full) == pytest.approx(printed, abs=0.06), method


def test_published_rows_match_the_printed_digits() -> None:
    rows = {row["method"]: row for row in published_rows("published:llava665k", BENCHMARKS)}
    assert list(rows["PreSel"]["scores"].values()) == [
        75.0, 70.1, 55.2, 1457.7, 64.8, 56.5, 63.8, 29.6, 85.4
    ]  # fmt: skip
    assert rows["PreSel"]["instructions"] == 15 and rows["COINCIDE"]["instructions"] == 100
    assert rows["Full"]["relative"] == 100.0


def test_published_rows_cover_only_the_runs_benchmarks() -> None:
    rows = {row["method"]: row for row in published_rows("published:vision_flan", ["POPE", "x"])}
    assert rows["Random"]["scores"] == {"POPE": 83.0}
    assert rows["Random"]["relative"] == pytest.approx(100 * 83.0 / 85.7)
    assert published_rows("published:vision_flan", ["quickstart"]) == []
    assert published_rows("runs/full/benchmark.json", BENCHMARKS) == []
    assert published_rows(None, BENCHMARKS) == []


def test_report_shows_published_rows(tmp_path: Path) -> None:
    run = {"state": "done", "selector": "PreSel", "full_scores": "published:llava665k"}
    stages = {"final": {"samples": 9, "instructions": 9, "seconds": 1.0}}
    (tmp_path / "run.json").write_text(json.dumps({**run, "stages": stages}))
    full = full_scores("published:llava665k")
    table = benchmark_table({"final": {"VQAv2": 74.0, "MME": 1400.0}}, full)
    (tmp_path / "benchmark.json").write_text(json.dumps(table))
    html = write_report(tmp_path).read_text()
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [row["method"] for row in report["published"]][:2] == ["Full", "Random"]
    cells = html.split('<th scope="row">PreSel (paper)</th>')[1].split("</tr>")[0]
    assert ">15 %<" in cells and ">75.0<" in cells and ">1,457.7<" in cells.replace("1457", "1,457")
    assert "arXiv 2503.07591" in html
    recorder = Console(record=True, width=200, quiet=False)
    print_summary(tmp_path, recorder)
    line = next(x for x in recorder.export_text().splitlines() if "PreSel (paper)" in x)
    relative = relative_performance({"VQAv2": 75.0, "MME": 1457.7}, full)
    assert f"{relative:.1f}" in line


def test_full_scores_reads_another_runs_benchmark_json(tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    table = benchmark_table({"final": {"x": 30.0}, "full": {"x": 60.0, "y": None}})
    path.write_text(json.dumps(table))
    assert full_scores(str(path)) == {"x": 60.0}
    path.write_text('{"x": 60, "y": 1.5, "relative": 100}')
    assert full_scores(path) == {"x": 60.0, "y": 1.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "neither an arm"),
        ('{"final": {"x": 3.0}}', "neither an arm"),
        ('{"full": {"x": null}}', "neither an arm"),
        (None, "cannot be read"),
    ],
)
def test_full_scores_file_without_scores_raises_user_error(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "scores.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        full_scores(path)


def test_full_scores_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"published:llava665k, .*published:vision_flan"):
        full_scores("published:coco")
