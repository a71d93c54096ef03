from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from presel_lightning.functional.datamodeling import datamodeling_score


def subsets_of(seed: int, n: int, size: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(n)[:size] for _ in range(count)])


def test_score_is_the_rank_correlation_of_sums_and_outcomes() -> None:
    rng = np.random.default_rng(0)
    true, subsets = rng.normal(size=60), subsets_of(1, 60, 12, 25)
    outcome = np.array([sum(true[i] for i in members) for members in subsets])
    outcome += rng.normal(size=25)
    given = true + rng.normal(size=60)
    found = datamodeling_score(given, subsets, outcome)
    sums = [sum(given[i] for i in members) for members in subsets]
    assert found.score == pytest.approx(spearmanr(sums, outcome).statistic)
    assert found.low < found.score < found.high <= 1
    assert datamodeling_score(true, subsets, outcome).score > found.score


def test_perfect_scores_have_score_one_and_inverted_ones_minus_one() -> None:
    true, subsets = np.random.default_rng(2).normal(size=40), subsets_of(3, 40, 9, 20)
    outcome = true[subsets].sum(axis=1)
    assert datamodeling_score(true, subsets, outcome) == pytest.approx((1, 1, 1))
    assert datamodeling_score(-true, subsets, outcome).score == pytest.approx(-1)


def test_scores_without_information_have_an_interval_around_zero() -> None:
    rng, subsets = np.random.default_rng(4), subsets_of(5, 200, 40, 40)
    covered = 0
    for _ in range(20):
        found = datamodeling_score(rng.normal(size=200), subsets, rng.normal(size=40))
        covered += found.low <= 0 <= found.high
    assert covered >= 17


def test_constant_scores_have_no_score() -> None:
    found = datamodeling_score(np.ones(30), subsets_of(0, 30, 5, 8), np.arange(8.0))
    assert np.isnan(found).all()
