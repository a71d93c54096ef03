import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional import official_task_budgets


def llava(weights: list[float], total: int) -> list[int]:
    counts = [int(w * total) for w in weights]
    rest = total - sum(counts)
    if rest > 0:
        counts[max(range(len(weights)), key=lambda i: weights[i])] += rest
    if rest < 0:
        counts[min(range(len(weights)), key=lambda i: weights[i])] += rest
    return counts


def vision_flan(weights: list[float], total: int, sizes: list[int]) -> list[int]:
    ideal = [w * total for w in weights]
    counts = [math.floor(x) for x in ideal]
    missing = total - sum(counts)
    order = sorted(range(len(ideal)), key=lambda i: ideal[i] - math.floor(ideal[i]), reverse=True)
    for i in order:
        if missing == 0:
            break
        if counts[i] < sizes[i]:
            counts[i] += 1
            missing -= 1
    counts = [min(c, s) for c, s in zip(counts, sizes, strict=True)]
    while sum(counts) < total and any(c < s for c, s in zip(counts, sizes, strict=True)):
        for i in range(len(sizes)):
            if sum(counts) == total:
                break
            if counts[i] < sizes[i]:
                counts[i] += 1
    return counts


@st.composite
def tasks(draw: st.DrawFn) -> tuple[list[float], list[int]]:
    number = draw(st.integers(1, 10))
    scores = draw(st.lists(st.floats(0, 2), min_size=number, max_size=number))
    weights = torch.softmax(-torch.tensor(scores, dtype=torch.float64), dim=0).tolist()
    return weights, draw(st.lists(st.integers(0, 200), min_size=number, max_size=number))


@given(tasks(), st.integers(0, 1000))
def test_official_task_budgets_match_the_published_rules(
    task: tuple[list[float], list[int]], total: int
) -> None:
    weights, sizes = torch.tensor(task[0], dtype=torch.float64), torch.tensor(task[1])
    assert official_task_budgets(weights, total, sizes).tolist() == llava(task[0], total)
    fractions = official_task_budgets(weights, total, sizes, "fractions").tolist()
    assert fractions == vision_flan(task[0], total, task[1])
    assert sum(fractions) == min(total, sum(task[1]))


def test_official_llava_rule_gives_remainder_to_largest_weight() -> None:
    budgets = official_task_budgets(torch.tensor([0.25, 0.375, 0.375]), 10, torch.tensor([9, 9, 9]))
    assert budgets.tolist() == [2, 5, 3]


def test_official_unknown_rule_raises_key_error() -> None:
    with pytest.raises(KeyError):
        official_task_budgets(torch.ones(1), 1, torch.ones(1), "other")  # type: ignore[arg-type]
