"""Cells made by hand go in; tables, differences and words come out."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from scipy import stats

from presel_lightning.console import console
from presel_lightning.eval.comparison import COLUMNS, add_relative, analyse, read_cells
from presel_lightning.eval.comparison_page import (
    latex,
    markdown,
    plus_minus,
    print_comparison,
    sentence,
    table_rows,
    verdict,
    write_comparison,
)

HOSTILE = "<script>alert(1)</script>"
RANDOM, BETTER, WORSE, SAME = (
    [40.0, 42.0, 41.0, 43.0, 40.0],
    [45.0, 46.5, 46.0, 48.5, 44.5],
    [35.0, 36.5, 36.0, 38.5, 34.5],
    [40.5, 41.5, 41.5, 42.5, 40.5],
)
FULL = [50.0, 50.0, 50.0, 50.0, 50.0]

Json = dict[str, Any]


def cell(
    selector: str,
    seed: int | None,
    scores: dict[str, float],
    *,
    budget: float = 0.15,
    pool: str = "",
    chosen: Sequence[str] = (),
) -> Json:
    whole = selector in ("full", "untrained")
    name = {} if selector == "untrained" else {"name": f"{selector}-{budget:g}-{seed}"}
    return {
        "selector": selector,
        "budget": {"full": 1.0, "untrained": 0}.get(selector, budget),
        "seed": seed,
        "scores": scores,
        "pool": pool,
        "instructions": 100 if whole else 15,
        "train_samples": 100 if whole else 15,
        "selection_seconds": 0.0 if whole else 2.5,
        "tasks": {} if selector == "untrained" else {"b": {"colour": 50.0, "count": 10.0}},
        "given": {"colour": 9, "count": 6},
        "chosen": set(chosen),
        **name,
    }


def cells_of(
    methods: dict[str, list[float]], *, pool: str = "", shift: float = 0.0, full: bool = True
) -> list[Json]:
    cells = [
        cell(name, seed, {"b": score + shift}, pool=pool)
        for name, scores in methods.items()
        for seed, score in enumerate(scores)
    ]
    if full:
        cells += [cell("full", seed, {"b": score}, pool=pool) for seed, score in enumerate(FULL)]
    return [*cells, cell("untrained", None, {"b": 5.0}, pool=pool)]


def analysed(cells: list[Json], elsewhere: dict[str, float] | None = None) -> Json:
    add_relative(cells, elsewhere)
    found: Json = json.loads(json.dumps({**analyse(cells), "published": []}, allow_nan=False))
    found["verdict"] = verdict(found)
    return found


def test_differences_are_paired_tests_on_the_benchmark(
) -> None:  # fmt: skip
    found = analysed(cells_of({"Random": RANDOM, "A": BETTER, "B": WORSE, "C": SAME}))
    assert found["measure"] == "b" and found["pools"] == [""] and found["over_pools"] == []
    (part,) = found["parts"]
    rows = {row["selector"]: row for row in part["differences"]}
    assert list(rows) == ["A", "B", "C"]
    p_values = []
    for name, scores in (("A", BETTER), ("B", WORSE), ("C", SAME)):
        expected = stats.ttest_rel(scores, RANDOM)
        p_values.append(expected.pvalue)
        assert rows[name]["mean"] == pytest.approx(math.fsum(scores) / 5 - math.fsum(RANDOM) / 5)
        assert rows[name]["low"] == pytest.approx(expected.confidence_interval(0.95).low)
        assert rows[name]["p"] == pytest.approx(expected.pvalue)
    least = min(p_values)
    assert min(row["holm"] for row in rows.values()) == pytest.approx(3 * least)


def test_rows_hold_mean_and_deviation_in_the_order_of_the_paper() -> None:
    found = analysed(cells_of({"Random": RANDOM, "A": BETTER}))
    rows = found["parts"][0]["rows"]
    assert [row["selector"] for row in rows] == ["full", "Random", "A", "untrained"]
    assert [row["seeds"] for row in rows] == [5, 5, 5, 1]
    mean, deviation = rows[1]["scores"]["b"]
    assert mean == pytest.approx(41.2) and deviation == pytest.approx(math.sqrt(6.8 / 4))
    assert rows[2]["relative"][0] == pytest.approx(sum(100 * s / 50 for s in BETTER) / 5)
    assert rows[3]["scores"]["b"] == [5.0, None] and rows[3]["relative"] == [10.0, None]
    assert rows[1]["cells"] == [f"Random-0.15-{seed}" for seed in range(5)]
    assert found["parts"][0]["tasks"][0]["given"] == {"Random": 9, "A": 9}


def test_relative_is_to_the_same_seed_or_to_what_is_given() -> None:
    cells = [
        *(cell("full", seed, {"b": 40.0 + 10 * seed}) for seed in (0, 1)),
        *(cell("Random", seed, {"b": 30.0}) for seed in (0, 1, 2)),
        cell("untrained", None, {"b": 9.0}),
    ]
    add_relative(cells, None)
    # seed 2 and the untrained model have no full-data cell: the mean of all stands in
    assert [c["relative"] for c in cells] == pytest.approx([100, 100, 75, 60, 200 / 3, 20])
    add_relative(cells, {"b": 60.0})
    assert cells[2]["relative"] == pytest.approx(50)
    add_relative(cells[2:], None)
    assert cells[2]["relative"] is None and cells[2]["of_full"] == {"b": None}


def test_what_was_not_measured_is_left_out_and_never_made_up() -> None:
    cells = [
        cell("Random", 0, {"b": 40.0}),
        cell("Random", 1, {"b": 44.0}),
        cell("A", 0, {}),  # no score at all
        cell("A", 1, {"b": 47.0}),
        cell("B", 2, {"b": 47.0}),  # no seed in common with Random
        cell("untrained", None, {}),
    ]
    found = analysed(cells)
    rows = {row["selector"]: row for row in found["parts"][0]["rows"]}
    assert rows["A"]["scores"]["b"] == [47.0, None] and rows["untrained"]["scores"]["b"] is None
    assert rows["A"]["relative"] is None  # nothing was trained on everything
    (only,) = found["parts"][0]["differences"]
    assert (only["selector"], only["mean"], only["n"]) == ("A", 3.0, 1)
    assert only["low"] is None and only["holm"] is None
    assert "n/a" in markdown(found["parts"][0], found)


def test_several_benchmarks_are_compared_by_relative_performance() -> None:
    cells = [
        cell("full", 0, {"b": 50.0, "c": 200.0}),
        cell("Random", 0, {"b": 40.0, "c": 100.0}),
        cell("A", 0, {"b": 45.0, "c": 100.0}),
        cell("untrained", None, {"b": 5.0, "c": 20.0}),
    ]
    found = analysed(cells)
    assert found["measure"] == "relative" and found["benchmarks"] == ["b", "c"]
    assert found["parts"][0]["differences"][0]["mean"] == pytest.approx(5.0)


def test_pools_stand_alone_and_together() -> None:
    methods = {"Random": RANDOM, "A": BETTER}
    one, two = cells_of(methods, pool="one"), cells_of(methods, pool="two", shift=-10.0)
    two = [c for c in two if (c["selector"], c["seed"]) != ("A", 4)]  # one cell failed
    found = analysed(one + two)
    assert [(p["pool"], p["budget"]) for p in found["parts"]] == [("one", 0.15), ("two", 0.15)]
    assert [p["differences"][0]["n"] for p in found["parts"]] == [5, 4]
    (together,) = found["over_pools"]
    (row,) = together["differences"]
    assert row["n"] == 4  # only seeds that every pool has
    expected = sum(a - r for a, r in zip(BETTER[:4], RANDOM[:4], strict=True)) / 4
    assert row["mean"] == pytest.approx(expected)
    assert "mean over 2 pools" in found["verdict"][0]


def test_budgets_do_not_mix() -> None:
    cells = cells_of({"Random": RANDOM, "A": BETTER})
    cells += [cell(n, s, {"b": 30.0}, budget=0.05) for n in ("Random", "A") for s in range(5)]
    found = analysed(cells)
    assert [part["budget"] for part in found["parts"]] == [0.05, 0.15]
    assert found["parts"][0]["differences"][0]["mean"] == 0.0
    assert all(part["rows"][0]["selector"] == "full" for part in found["parts"])


def test_overlap_is_a_mean_over_seeds() -> None:
    cells = [
        cell("Random", 0, {"b": 1.0}, chosen="abcd"),
        cell("Random", 1, {"b": 1.0}, chosen="abcd"),
        cell("A", 0, {"b": 1.0}, chosen="abcd"),
        cell("A", 1, {"b": 1.0}, chosen="cdef"),
        cell("untrained", None, {"b": 1.0}),
    ]
    (row,) = analysed(cells)["parts"][0]["overlap"]
    assert row == {"one": "Random", "other": "A", "jaccard": pytest.approx((1 + 2 / 6) / 2)}


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (BETTER, r"^A beats Random: \+4\.9 \[\+4\.\d, \+5\.\d\] points of b against Random, Holm"),
        (WORSE, r"^A loses to Random: -5\.1 \[-5\.\d, -4\.\d\]"),
        (SAME, r"^A cannot be told from Random: \+0\.1 \[-0\.\d, \+0\.\d\]"),
        (BETTER[:1], r"^A: \+5\.0 points of b against Random, one seed"),
        ([41.0, 43.0], r"^A: \+1\.0 points of b against Random, the same on all 2 seeds, so no"),
    ],
)
def test_the_verdict_says_what_may_be_said(ours: list[float], expected: str) -> None:
    found = analysed(cells_of({"Random": RANDOM[: len(ours)], "A": ours}))
    assert re.search(expected, found["verdict"][0]), found["verdict"]
    assert "at a budget of 0.15" in found["verdict"][0]
    few = [line for line in found["verdict"] if "tell" in line and "little" in line]
    assert len(few) == (len(found["seeds"]) < 5)


def test_without_random_nothing_is_concluded() -> None:
    found = analysed(cells_of({"A": BETTER}))
    assert found["verdict"] == [
        "Without Random among the selectors no difference can be told from chance."
    ]


def test_words_for_relative_performance() -> None:
    row = {"selector": "A", "mean": 2.0, "low": 1.0, "high": 3.0, "holm": 0.001}
    assert "points of relative performance" in sentence(row, "relative")


def test_tables_for_readme_and_paper() -> None:
    found = analysed(cells_of({"Random": RANDOM, "PreSel_1%": BETTER}))
    part = found["parts"][0]
    text = markdown(part, found).splitlines()
    assert text[2] == "| method | instructions | b | Rel. (%) |"
    assert text[5] == "| Random | 15 | 41.2 ± 1.3 | 82.4 ± 2.6 |"
    assert all(line.count("|") == 5 for line in text[2:])
    paper = latex(part, found)
    assert r"PreSel\_1\% & 15 & 46.1 $\pm$ 1.6" in paper
    rows = [line for line in paper.splitlines() if line.endswith(r"\\")]
    assert all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)
    assert paper.count(r"\begin{tabular}{lrrr}") == 1


def test_plus_minus() -> None:
    assert plus_minus((1.25, None)) == "1.2" and plus_minus((1.0, 0.26)) == "1.0 ± 0.3"
    assert plus_minus(None) == plus_minus((None, None)) == "n/a"


# ------------------------------------------------------------------ from and to files


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_grid(out: Path, scores: dict[str, list[float | None]], benchmark: str = "shapes") -> None:
    """The files of cells that `read_cells` looks at; None for a cell that has not ended."""
    grid = []
    for selector, values in scores.items():
        for seed, score in enumerate(values):
            budget = 1.0 if selector == "full" else 0.5
            name = f"{selector}-{budget:g}-{seed}"
            needs = ["features", "paired_loss", "held_out_loss"] if selector == "A" else []
            grid.append({"name": name, "selector": selector, "budget": budget, "seed": seed})
            grid[-1] |= {"spec": {}, "needs": needs}
            if score is not None:
                write_cell(out / "cells" / name, score, benchmark)
    write_json(out / "grid.json", {"cells": grid})
    write_json(out / "benchmark.json", {"untrained": {benchmark: 5.0, "relative": None}})
    write_json(out / "run.json", {"stages": {}})


def write_cell(folder: Path, score: float, benchmark: str) -> None:
    table = {"score": score, "tasks": {HOSTILE: score}, "n": 10}
    write_json(folder / "benchmark.json", {"final": {benchmark: score, "relative": None}})
    write_json(folder / "work" / "scores" / "final.json", {"benchmarks": {benchmark: table}})
    made = ("features", "reference", "losses", "held_out_a", "held_out_b", "held_out")
    stages: Json = {name: {"seconds": 1.0} for name in (*made, "selection")}
    stages["final"] = {"samples": 4, "instructions": 4}
    write_json(folder / "run.json", {"stages": stages, "state": "done"})
    (folder / "selection").mkdir()
    uids = [f"{number:032x}" for number in range(8)]
    chosen = [number % 2 == 0 for number in range(8)]
    pq.write_table(
        pa.table({"uid": uids, "selected": chosen}), folder / "selection" / "selection.parquet"
    )
    with (folder / "selection" / "tasks.csv").open("w") as handle:
        csv.writer(handle).writerows([["task", "selected"], [HOSTILE, 4]])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_grid(tmp_path, {"Random": [40.0, 42.0], "A": [44.0, 47.0], "full": [50.0, None]})
    return tmp_path


def test_cells_are_read_with_all_that_choosing_cost(out: Path) -> None:
    cells = {(c["selector"], c["seed"]): c for c in read_cells(out, "p")}
    assert len(cells) == 6 and ("full", 1) not in cells
    assert cells["Random", 0]["selection_seconds"] == 1.0
    assert cells["A", 0]["selection_seconds"] == 7.0
    assert cells["A", 1]["scores"] == {"shapes": 47.0} and cells["A", 1]["pool"] == "p"
    assert cells["A", 1]["given"] == {HOSTILE: 4} and len(cells["A", 1]["chosen"]) == 4
    assert cells["untrained", None]["instructions"] == 0


class Loads(HTMLParser):
    """What a page would fetch, and the tags that text might have smuggled in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts = 0
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name in ("src", "srcset", "data") or (name == "href" and tag != "a"):
                self.loads.append(str(value))
            if name == "href" and tag == "a":
                self.links.append(str(value))


def test_the_page_needs_nothing_but_itself(out: Path) -> None:
    place = write_comparison(out)
    html = place.read_text()
    page = Loads(html)
    assert place == out / "report" / "index.html" and page.loads == []
    assert not re.search(r"url\(|@import", html)
    assert HOSTILE not in html and "&lt;script&gt;" in html
    cells = [link for link in page.links if "cells/" in link]
    assert "../cells/A-0.5-1/report/index.html" in cells and len(cells) == 5
    assert "45.5 ± 2.1" in html and "<svg" in html
    for name in ("table.md", "table.tex", "report.json"):
        assert (out / "report" / name).stat().st_size > 0


def test_the_table_of_all_scores(out: Path) -> None:
    write_comparison(out)
    with (out / "comparison.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == COLUMNS
    issue = "selector budget seed benchmark score relative instructions train_samples"
    assert list(COLUMNS[:9]) == [*issue.split(), "selection_seconds"]
    found = {(row["selector"], row["seed"]): row for row in rows}
    assert float(found["A", "0"]["relative"]) == pytest.approx(88.0)
    assert float(found["A", "1"]["relative"]) == pytest.approx(94.0)  # the mean of full data
    assert found["untrained", ""]["score"] == "5.0"


def test_scores_of_an_earlier_call_are_not_those_of_a_cell_that_failed_since(out: Path) -> None:
    file = out / "cells" / "A-0.5-1" / "run.json"
    write_json(file, {**json.loads(file.read_text()), "state": "running"})
    assert ("A", 1) not in {(c["selector"], c["seed"]) for c in read_cells(out)}


def test_several_pools_have_one_page(tmp_path: Path) -> None:
    for name, add in (("one", 0.0), ("two", 2.0)):
        scores = {"Random": [40.0, 42.0], "A": [44.0 + add, 47.0 + add]}
        write_grid(tmp_path / "pools" / name, scores)  # type: ignore[arg-type]
    write_json(tmp_path / "run.json", {"stages": {}})
    place = write_comparison(tmp_path, [(n, tmp_path / "pools" / n) for n in ("one", "two")])
    page = Loads(place.read_text())
    assert "../pools/two/cells/A-0.5-0/report/index.html" in page.links
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["over_pools"][0]["differences"][0]["mean"] == pytest.approx(5.5)
    for link in page.links:
        if "cells/" in link:
            cell_folder = (place.parent / link).resolve().parent.parent
            assert (cell_folder / "benchmark.json").exists()


def test_published_rows_stand_beside_the_own_ones(tmp_path: Path) -> None:
    write_grid(tmp_path, {"Random": [70.0], "A": [75.0]}, benchmark="VQAv2")
    run = {"stages": {}, "full_scores": "published:llava665k"}
    write_json(tmp_path / "run.json", run)
    html = write_comparison(tmp_path).read_text()
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["parts"][0]["rows"][1]["relative"][0] == pytest.approx(100 * 75.0 / 79.1)
    rows = {row[0]: row[1:] for row in table_rows(report["parts"][0], report)}
    assert rows["PreSel (paper)"] == ["15 %", "75.0", "94.8"]
    assert rows["COINCIDE (paper)"] == ["100 %", "76.1", "96.2"]
    assert "PreSel (paper)" in html
    assert r"PreSel (paper) & 15 \% & 75.0" in (tmp_path / "report" / "table.tex").read_text()


def test_the_screen_shows_table_verdict_and_where_to_look(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_comparison(out)
    recorder = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    monkeypatch.setattr(console, "print", recorder.print)
    print_comparison(out)
    text = recorder.export_text()
    assert "45.5 ± 2.1" in text and "A cannot be told from Random" in text
    assert str(out / "comparison.csv") in text
