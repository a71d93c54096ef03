"""Cells made by hand go in; tables, differences and words come out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
from scipy import stats

from presel_lightning.eval.comparison.cells import add_relative, analyze
from presel_lightning.eval.comparison.page import latex, markdown, plus_minus
from presel_lightning.eval.comparison.verdict import sentence, verdict

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


def analyzed(cells: list[Json], elsewhere: dict[str, float] | None = None) -> Json:
    add_relative(cells, elsewhere)
    found: Json = json.loads(json.dumps({**analyze(cells), "published": []}, allow_nan=False))
    found["verdict"] = verdict(found)
    return found


def test_comparison_differences_match_scipy_paired_tests(
) -> None:  # fmt: skip
    found = analyzed(cells_of({"Random": RANDOM, "A": BETTER, "B": WORSE, "C": SAME}))
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


def test_comparison_rows_hold_mean_and_sd_in_paper_order() -> None:
    found = analyzed(cells_of({"Random": RANDOM, "A": BETTER}))
    rows = found["parts"][0]["rows"]
    assert [row["selector"] for row in rows] == ["full", "Random", "A", "untrained"]
    assert [row["seeds"] for row in rows] == [5, 5, 5, 1]
    mean, deviation = rows[1]["scores"]["b"]
    assert mean == pytest.approx(41.2) and deviation == pytest.approx(math.sqrt(6.8 / 4))
    assert rows[2]["relative"][0] == pytest.approx(sum(100 * s / 50 for s in BETTER) / 5)
    assert rows[3]["scores"]["b"] == [5.0, None] and rows[3]["relative"] == [10.0, None]
    assert rows[1]["cells"] == [f"Random-0.15-{seed}" for seed in range(5)]
    assert found["parts"][0]["tasks"][0]["given"] == {"Random": 9, "A": 9}


def test_add_relative_divides_by_same_seed_or_given_scores() -> None:
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


def test_comparison_missing_scores_are_left_out() -> None:
    cells = [
        cell("Random", 0, {"b": 40.0}),
        cell("Random", 1, {"b": 44.0}),
        cell("A", 0, {}),  # no score at all
        cell("A", 1, {"b": 47.0}),
        cell("B", 2, {"b": 47.0}),  # no seed in common with Random
        cell("untrained", None, {}),
    ]
    found = analyzed(cells)
    rows = {row["selector"]: row for row in found["parts"][0]["rows"]}
    assert rows["A"]["scores"]["b"] == [47.0, None] and rows["untrained"]["scores"]["b"] is None
    assert rows["A"]["relative"] is None  # nothing was trained on everything
    (only,) = found["parts"][0]["differences"]
    assert (only["selector"], only["mean"], only["n"]) == ("A", 3.0, 1)
    assert only["low"] is None and only["holm"] is None
    assert "n/a" in markdown(found["parts"][0], found)


def test_comparison_of_several_benchmarks_uses_relative_score() -> None:
    cells = [
        cell("full", 0, {"b": 50.0, "c": 200.0}),
        cell("Random", 0, {"b": 40.0, "c": 100.0}),
        cell("A", 0, {"b": 45.0, "c": 100.0}),
        cell("untrained", None, {"b": 5.0, "c": 20.0}),
    ]
    found = analyzed(cells)
    assert found["measure"] == "relative" and found["benchmarks"] == ["b", "c"]
    assert found["parts"][0]["differences"][0]["mean"] == pytest.approx(5.0)


def test_comparison_reports_each_pool_and_their_mean() -> None:
    methods = {"Random": RANDOM, "A": BETTER}
    one, two = cells_of(methods, pool="one"), cells_of(methods, pool="two", shift=-10.0)
    two = [c for c in two if (c["selector"], c["seed"]) != ("A", 4)]  # one cell failed
    found = analyzed(one + two)
    assert [(p["pool"], p["budget"]) for p in found["parts"]] == [("one", 0.15), ("two", 0.15)]
    assert [p["differences"][0]["n"] for p in found["parts"]] == [5, 4]
    (together,) = found["over_pools"]
    (row,) = together["differences"]
    assert row["n"] == 4  # only seeds that every pool has
    expected = sum(a - r for a, r in zip(BETTER[:4], RANDOM[:4], strict=True)) / 4
    assert row["mean"] == pytest.approx(expected)
    assert "mean over 2 pools" in found["verdict"][0]


def test_comparison_reports_each_budget_separately() -> None:
    cells = cells_of({"Random": RANDOM, "A": BETTER})
    cells += [cell(n, s, {"b": 30.0}, budget=0.05) for n in ("Random", "A") for s in range(5)]
    found = analyzed(cells)
    assert [part["budget"] for part in found["parts"]] == [0.05, 0.15]
    assert found["parts"][0]["differences"][0]["mean"] == 0.0
    assert all(part["rows"][0]["selector"] == "full" for part in found["parts"])


def test_comparison_overlap_is_the_mean_over_seeds() -> None:
    cells = [
        cell("Random", 0, {"b": 1.0}, chosen="abcd"),
        cell("Random", 1, {"b": 1.0}, chosen="abcd"),
        cell("A", 0, {"b": 1.0}, chosen="abcd"),
        cell("A", 1, {"b": 1.0}, chosen="cdef"),
        cell("untrained", None, {"b": 1.0}),
    ]
    (row,) = analyzed(cells)["parts"][0]["overlap"]
    assert row == {"one": "Random", "other": "A", "jaccard": pytest.approx((1 + 2 / 6) / 2)}


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (
            BETTER,
            r"^A was ahead of Random: \+4\.9 \[\+4\.\d, \+5\.\d\] points of b over 5 seeds, Holm",
        ),
        (WORSE, r"^A was behind Random: -5\.1 \[-5\.\d, -4\.\d\]"),
        (SAME, r"^A is not distinguishable from Random: \+0\.1 \[-0\.\d, \+0\.\d\]"),
        (BETTER[:1], r"^A was ahead of Random: \+5\.0 points of b on one seed"),
        (RANDOM[:1], r"^A came out equal with Random: \+0\.0 points of b on one seed"),
        ([41.0, 43.0], r"^A was ahead of Random: \+1\.0 points of b on all 2 seeds alike"),
    ],
)
def test_comparison_verdict_matches_the_statistics(ours: list[float], expected: str) -> None:
    found = analyzed(cells_of({"Random": RANDOM[: len(ours)], "A": ours}, full=False))
    assert re.search(expected, found["verdict"][0]), found["verdict"]
    assert "at a budget of 15 %" in found["verdict"][0]
    few = [line for line in found["verdict"] if "little statistical power" in line]
    assert len(few) == (len(found["seeds"]) < 5)


def test_comparison_without_random_draws_no_conclusion() -> None:
    found = analyzed(cells_of({"A": BETTER}))
    assert found["verdict"] == ["Without Random among the selectors no difference can be tested."]


def test_verdict_several_benchmarks_without_full_data_names_what_is_missing() -> None:
    scores = {"Random": (40.0, 30.0), "A": (44.0, 31.0)}
    cells = [cell(name, s, {"b": b, "c": c}) for name, (b, c) in scores.items() for s in range(3)]
    (text,) = analyzed(cells)["verdict"]
    assert "relative performance" in text and "full_scores" in text and "Without" not in text
    known = analyzed(cells, {"b": 50.0, "c": 60.0})["verdict"]
    assert "points of relative performance" in known[0]


def test_verdict_no_shared_seed_or_no_other_method_is_told_apart() -> None:
    apart = [cell("Random", 0, {"b": 40.0}), cell("A", 1, {"b": 44.0})]
    assert "no seed in common" in analyzed(apart)["verdict"][0]
    assert "nothing to compare" in analyzed(cells_of({"Random": RANDOM}))["verdict"][0]


def test_sentence_names_points_of_relative_performance() -> None:
    row = {"selector": "A", "mean": 2.0, "low": 1.0, "high": 3.0, "holm": 0.001, "n": 3}
    assert "points of relative performance" in sentence(row, "relative")


def test_markdown_and_latex_tables_are_well_formed() -> None:
    found = analyzed(cells_of({"Random": RANDOM, "PreSel_1%": BETTER}))
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


def test_latex_escapes_names_of_benchmarks() -> None:
    found = analyzed([cell("Random", 0, {r"a^b~c\d": 40.0}), cell("A", 0, {r"a^b~c\d": 44.0})])
    head = latex(found["parts"][0], found).splitlines()[3]
    printed = r"a\textasciicircum{}b\textasciitilde{}c\textbackslash{}d"
    assert head == rf"Method & Instructions & {printed} & Rel. (\%) \\"


def test_plus_minus_formats_mean_and_deviation() -> None:
    assert plus_minus((1.25, None)) == "1.2" and plus_minus((1.0, 0.26)) == "1.0 ± 0.3"
    assert plus_minus(None) == plus_minus((None, None)) == "n/a"
