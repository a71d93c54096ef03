from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.eval.benchmarks.exact_match import ExactMatch, normalise

TASKS = ["count", "colour", "unused"]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  The Red\n car. ", "red car"),
        ("two", "2"),
        ("none", "0"),
        ("Ten apples", "10 apples"),
        ("dont", "don't"),
        ("don\N{RIGHT SINGLE QUOTATION MARK}t know", "don't know"),
        ("its", "its"),
        ("girl's", "girl's"),
        ("100,978", "100978"),
        ("red, blue", "red blue"),
        ("3.5", "3.5"),
        ("U.S.", "us"),
        ("2:50 pm", "2:50 pm"),
        ("black-and-white", "black and white"),
        ("a", "a"),
        ("A.", "a"),
        ("an apple", "apple"),
        ("", ""),
        ("?!", ""),
    ],
)
def test_normalise_removes_case_articles_and_punctuation(text: str, normal: str) -> None:
    assert normalise(text) == normal


@given(st.text())
def test_normalise_ignores_surrounding_space(text: str) -> None:
    once = normalise(text)
    assert once == " ".join(once.split())
    assert normalise(f"  {text}\t") == once


def test_normalise_keeps_option_a_distinct_from_an_article() -> None:
    assert normalise("A") != normalise("the") != normalise("")


answers = st.sampled_from(["red", "The red.", "blue", "2", "two", "three", ""])
rows = st.lists(st.tuples(answers, answers, st.sampled_from(TASKS[:2])), min_size=1, max_size=30)


def literal(batch: list[tuple[str, str, str]]) -> tuple[float, float, dict[str, float]]:
    per_task: dict[str, list[float]] = {}
    for guess, gold, task in batch:
        per_task.setdefault(task, []).append(100.0 * (normalise(guess) == normalise(gold)))
    shares = {task: sum(hits) / len(hits) for task, hits in per_task.items()}
    hits = [hit for each in per_task.values() for hit in each]
    return sum(shares.values()) / len(shares), sum(hits) / len(hits), shares


def updated(batch: list[tuple[str, str, str]]) -> ExactMatch:
    metric = ExactMatch(TASKS)
    metric.update(*(list(column) for column in zip(*batch, strict=True)))
    return metric


@given(rows)
def test_exact_match_equals_a_literal_loop(batch: list[tuple[str, str, str]]) -> None:
    macro, micro, shares = literal(batch)
    found = updated(batch).compute()
    assert float(found["macro"]) == pytest.approx(macro, rel=1e-5)
    assert float(found["micro"]) == pytest.approx(micro, rel=1e-5)
    assert {t: float(v) for t, v in found["tasks"].items()} == pytest.approx(shares, rel=1e-5)


@given(rows, rows)
def test_exact_match_states_of_two_ranks_sum(
    one: list[tuple[str, str, str]], two: list[tuple[str, str, str]]
) -> None:
    """What a sum over processes does to each state."""
    first, second, whole = updated(one), updated(two), updated(one + two)
    merged = ExactMatch(TASKS)
    for name, reduction in merged._reductions.items():
        stacked = torch.stack([getattr(first, name), getattr(second, name)])
        assert callable(reduction)
        setattr(merged, name, reduction(stacked))
    merged._update_count = 1
    found, expected = merged.compute(), whole.compute()
    assert found["macro"] == expected["macro"] and found["micro"] == expected["micro"]
    assert found["tasks"] == expected["tasks"]


def test_exact_match_reset_clears_the_states() -> None:
    metric = updated([("red", "red", "count")])
    metric.reset()
    metric.update(["red"], ["blue"], ["colour"])
    assert metric.compute()["tasks"] == {"colour": 0}


def test_exact_match_invalid_update_raises_value_error() -> None:
    metric = ExactMatch(TASKS)
    with pytest.raises(ValueError, match="one target"):
        metric.update(["a", "b"], ["a"], ["count"])
    with pytest.raises(ValueError, match="tasks among"):
        metric.update(["a"], ["a"], ["elsewhere"])
    assert int(metric.total.sum()) == 0
