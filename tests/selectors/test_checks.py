"""What a selector, a rule inside a task or a weighting returns is refused by its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.selectors import PreSel, Random, Selector
from presel_lightning.selectors.weighting import Weighting
from presel_lightning.selectors.within import RandomOrder
from tests.selectors.pools import Pair


class Altered(Random):
    """A random selection with other columns."""

    def __init__(self, change: Any) -> None:
        self.change = change

    def select(self, *given: Any, seed: int) -> Any:
        selection = super().select(*given, seed=seed)
        return self.change(selection) if callable(self.change) else self.change


class Fixed(Weighting):
    """The given weights."""

    def __init__(self, weights: Any) -> None:
        super().__init__()
        self.values = weights

    def weights(self, facts: Any, budget: int) -> Any:
        return self.values


class Unsure(RandomOrder):
    """Scores with NaN."""

    def order(self, features: Any, *, seed: int) -> Any:
        order, score = super().order(features, seed=seed)
        return order, score * torch.nan


CHANGES = {
    "another type": (torch.zeros(3), "selector Altered returned a Tensor; return a"),
    "infinite score": (
        lambda s: replace(s, score=np.where(np.arange(len(s.score)) == 2, -np.inf, s.score)),
        "selector Altered returned a score of -inf for",
    ),
    "scores of another length": (
        lambda s: replace(s, score=s.score[1:]),
        r"scores of shape \(102,\)",
    ),
    "scores that are objects": (
        lambda s: replace(s, score=s.score.astype(object)),
        "returned an array of object as scores",
    ),
    "no scores": (lambda s: replace(s, score=None), "returned NoneType as scores"),
    "ranks of another length": (lambda s: replace(s, rank=s.rank[:5]), r"ranks of shape \(5,\)"),
    "ranks between others": (lambda s: replace(s, rank=s.rank + 0.5), "a rank that is no whole"),
    "one reason": (lambda s: replace(s, reason=np.array(["x"])), r"reasons of shape \(1,\)"),
    "a task without budget": (lambda s: replace(s, budgets={"a": 1}), "no budget of task 'b'"),
    "a sample twice": (lambda s: replace(s, uids=s.uids[[0, 0]]), "1 of them distinct"),
    "an unknown sample": (lambda s: replace(s, uids=["x"]), "selector Altered: uid x is not in"),
    "complex weights": (
        lambda s: replace(s, weights=s.weights.astype(complex)),
        "returned weights of dtype complex128",
    ),
}
PARTS = {
    "negative weight of a task": (
        PreSel(Fixed([1.0, -1.0, 1.0])),
        "weighting Fixed returned .* -1.0",
    ),
    "infinite weight of a task": (PreSel(Fixed(torch.tensor([1.0, 1.0, torch.inf]))), "of inf for"),
    "weights of other tasks": (PreSel(Fixed([1.0])), r"weights of shape \(1,\) for 3 tasks"),
    "NaN inside a task": (PreSel(within=Unsure()), "rule Unsure returned a score of nan for"),
}


def select(pair: Pair, selector: Selector) -> Any:
    data = SelectionDataModule("unused", budget=20 + int(pair[0].reference.sum()), copies="keep")
    data.pool, signals = pair
    return data.select(selector, signals, seed=0)


@pytest.mark.parametrize(("change", "fault"), CHANGES.values(), ids=CHANGES)
def test_selection_with_unusable_columns_names_the_selector(
    change: Any, fault: str, pair: Pair
) -> None:
    with pytest.raises(UserError, match=fault):
        select(pair, Altered(change))


@pytest.mark.parametrize(("selector", "fault"), PARTS.values(), ids=PARTS)
def test_part_with_unusable_numbers_is_named(selector: Selector, fault: str, pair: Pair) -> None:
    with pytest.raises(UserError, match=fault):
        select(pair, selector)


def test_scores_and_weights_that_are_unknown_are_null(pair: Pair) -> None:
    """NaN says that a method has no score, or that nothing was measured on a task."""
    unknown = select(pair, Altered(lambda s: replace(s, score=s.score * np.nan)))
    assert len(unknown.uids) == 20 and np.isnan(unknown.score).all()
    assert len(select(pair, PreSel(Fixed(torch.tensor([1.0, torch.nan, 2.0])))).uids) == 20
