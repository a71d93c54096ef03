"""DataTailor against literal loops, and against a port of the published rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from presel_lightning.data import Pool
from presel_lightning.errors import UserError
from presel_lightning.functional import datatailor as rules
from presel_lightning.selectors import DataTailor
from presel_lightning.signals import HiddenStates, Signals
from tests.selectors.pools import Case, Pair, make_pool

SIZES = {"a": 31, "b": 22, "c": 7}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("datatailor") / "pool", Case(SIZES, reference=0))


def with_states(
    pool: Pool, folder: Path, seed: int, change: Callable[[np.ndarray], None] = lambda last: None
) -> Pair:
    """Random hidden states in clumps, so that clusters have several members; random turns."""
    rng = np.random.default_rng(seed)
    signals = Signals(folder / "signals")
    last = rng.normal(size=(12, 5))[rng.integers(0, 12, len(pool))]
    last = (last + 0.05 * rng.normal(size=last.shape)).astype(np.float32)
    change(last)
    columns: dict[str, np.ndarray] = {
        "entropy": rng.uniform(1, 5, len(pool)).astype(np.float32),
        "concentration": rng.uniform(0.05, 0.9, len(pool)).astype(np.float32),
        "last": last,
    }
    signals.of(HiddenStates).write(pool, np.ones(len(pool), dtype=bool), columns, {})
    pool.n_turns = rng.integers(1, 6, len(pool))
    return pool, signals


def published(pool: Pool, signals: Signals, budget: int) -> set[str]:
    """The published rule, one domain and one sample after another.

    Zero over zero is NaN, which an ascending sort puts last; ties go to the lower index.
    """
    rows = np.arange(len(pool))
    entropy, tau = (signals.hidden_states(pool, rows, n) for n in ("entropy", "concentration"))
    last = signals.hidden_states(pool, rows, "last").astype(np.float64)
    shares = []
    for task in pool.tasks:
        own = pool.task_rows(task)
        shares.append(len(own) * float(np.mean(tau[own].astype(np.float64))) ** 2)
    chosen: set[str] = set()
    for task, share in zip(pool.tasks, shares, strict=True):
        own = pool.task_rows(task)
        s, e = entropy[own].astype(np.float64), last[own]
        tree = linkage(e, "ward")
        labels = fcluster(tree, 0.1 * tree[-1, 2], "distance")
        clusters = [np.flatnonzero(labels == c) for c in sorted(set(labels))]
        centers = [e[members].mean(axis=0) for members in clusters]
        unique, represents = np.zeros(len(own)), np.zeros(len(own))
        for number, members in enumerate(clusters):
            pairs = sum(math.dist(e[a], e[b]) for a in members for b in members)
            total = 0.0
            for other, center in enumerate(centers):
                if other != number:
                    lengths = np.linalg.norm(center) * np.linalg.norm(centers[number])
                    total += math.exp(float(center @ centers[number]) / lengths)
            for i in members:
                above = sum(math.dist(e[i], e[j]) * s[j] for j in members)
                unique[i] = above / (pairs / len(members)) if pairs else math.nan
                represents[i] = s[i] * total / (len(clusters) - 1)
        ranks = []
        for values in (s, unique, represents):
            order = sorted(
                range(len(own)),
                key=lambda i: (math.isnan(values[i]), 0 if math.isnan(values[i]) else values[i], i),
            )
            rank = np.zeros(len(own), dtype=np.float32)
            for place, row in enumerate(order):
                rank[row] = np.float32(place) / np.float32(len(own))
            ranks.append(rank)
        turns = pool.n_turns[own].astype(np.float32)
        score = (turns * ranks[0] + ranks[1] + ranks[2]) / (turns + np.float32(2))
        best = sorted(range(len(own)), key=lambda i: (-score[i], i))
        quota = min(int(budget * share / sum(shares)), len(own))
        chosen |= {pool.uid[own[i]] for i in best[:quota]}
    return chosen


@pytest.mark.parametrize("seed", range(20))
def test_published_mode_chooses_what_the_published_rule_chooses(
    seed: int, pool: Pool, tmp_path: Path
) -> None:
    pair = with_states(pool, tmp_path, seed)
    found = DataTailor(mode="published").select(*pair, 20, seed=0)
    assert set(found.uids) == published(*pair, 20)


@pytest.mark.parametrize("decouple", [False, True])
def test_exact_scores_equal_literal_sums_where_the_rule_defines_them(
    decouple: bool, pool: Pool, tmp_path: Path
) -> None:
    """Equations 6, 7 and 9; the ranks are those of scipy's own rule."""
    pool, signals = with_states(pool, tmp_path, 3)
    method = DataTailor(decouple_informativeness=decouple)
    for task in pool.tasks:
        own = pool.task_rows(task)
        found = method.of_task(pool, signals.of(HiddenStates), own, 0)
        s = np.ones(len(own)) if decouple else found.informativeness
        last = signals.hidden_states(pool, own, "last").astype(float)
        labels = found.cluster.astype(int)
        for i in range(len(own)):
            members = np.flatnonzero(labels == labels[i])
            if len(members) > 1:
                above = sum(math.dist(last[i], last[j]) * s[j] for j in members)
                mean = sum(math.dist(last[a], last[b]) for a in members for b in members)
                expected = above / (mean / len(members))
                assert found.uniqueness[i] == pytest.approx(expected, rel=1e-6)
        r = [np.argsort(np.argsort(v, kind="stable"), kind="stable") / len(own) for v in found[:3]]
        turns = pool.n_turns[own]
        np.testing.assert_allclose(
            found.score, (turns * r[0] + r[1] + r[2]) / (turns + 2), rtol=1e-5
        )


def test_uniqueness_of_one_and_of_equal_rows_is_defined() -> None:
    """Two equal rows repeat each other: 0. A row alone: by its nearest centroid."""
    rows = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 1.2]])
    labels, s = np.array([0, 0, 1, 2, 2]), np.array([2.0, 2.0, 5.0, 1.0, 3.0])
    centers = rules.centroids_of(rows, labels)
    raw = rules.uniqueness(rows, s, labels)
    assert np.isnan(raw).tolist() == [True, True, True, False, False]
    found = rules.with_defined_uniqueness(raw, centers, s, labels)
    mean = (1.1 + 3.0 + 1.1) / 3  # distances to the nearest centroid
    assert found[:3].tolist() == pytest.approx([0.0, 0.0, 2.0 * 3.0 / mean])
    assert found[3:].tolist() == pytest.approx([3.0 * 0.2 / 0.2, 1.0 * 0.2 / 0.2])


def test_representativeness_of_one_cluster_is_the_informativeness() -> None:
    s = np.array([1.0, 2.0])
    assert rules.representativeness(s, np.ones((1, 3)), np.zeros(2, dtype=int)).tolist() == [1, 2]
    alone = rules.with_defined_uniqueness(np.array([np.nan]), np.ones((1, 3)), s[:1], np.array([0]))
    assert alone.tolist() == [0.0]


@pytest.mark.parametrize("rule", ["tau2", "proportional", "uniform"])
@pytest.mark.parametrize("budget", [1, 9, 41, 58, 60])
def test_quotas_sum_to_the_budget_under_the_sizes(
    rule: rules.Quota, budget: int, pool: Pool, tmp_path: Path
) -> None:
    """Also where a task is given more than it holds."""
    pair = with_states(pool, tmp_path, 5)
    found = DataTailor(domain_quota=rule).select(*pair, budget, seed=0)
    assert sum(found.budgets.values()) == budget == len(set(found.uids))
    assert all(found.budgets[task] <= SIZES[task] for task in SIZES)
    weights = {
        "proportional": [31 / 60, 22 / 60, 7 / 60],
        "uniform": [1 / 3, 1 / 3, 1 / 3],
    }
    if rule in weights:
        assert list(found.task_weights.values()) == pytest.approx(weights[rule])


def test_tau2_quota_is_size_times_squared_mean_concentration() -> None:
    weights = rules.quota_weights(np.array([10.0, 20.0]), np.array([0.5, 0.1]), "tau2")
    assert weights.tolist() == pytest.approx([2.5, 0.2])


def test_sample_without_hidden_states_is_counted_and_comes_last(pool: Pool, tmp_path: Path) -> None:
    pool, signals = with_states(pool, tmp_path, 7)
    has = np.ones(len(pool), dtype=bool)
    has[[3, 40]] = False
    rows = np.flatnonzero(has)
    columns = {
        n: signals.hidden_states(pool, rows, n) for n in ("entropy", "concentration", "last")
    }
    columns["entropy"][0] = np.nan
    signals.of(HiddenStates).write(pool, has, columns, {})
    lost = {pool.uid[3], pool.uid[40], pool.uid[rows[0]]}
    found = DataTailor().select(pool, signals, 57, seed=0)
    assert not lost & set(found.uids) and np.isnan(found.score[pool.rows(sorted(lost))]).all()
    (line,) = found.meta["warnings"]
    assert line.startswith("3 of 60 samples have no score") and "none is selected" in line
    filled = DataTailor().select(pool, signals, 58, seed=0)
    assert len(lost & set(filled.uids)) == 1
    assert "1 of them fill the budget" in filled.meta["warnings"][0]


def test_report_facts_hold_the_correlation_of_each_score_with_length(
    pool: Pool, tmp_path: Path
) -> None:
    found = DataTailor().select(*with_states(pool, tmp_path, 1), 9, seed=0)
    assert set(found.meta["length_correlation"]) == {
        "informativeness", "uniqueness", "representativeness", "score",
    }  # fmt: skip


@pytest.mark.parametrize("key", ["mode", "domain_quota", "probe_at"])
def test_unknown_option_is_named(key: str) -> None:
    with pytest.raises(UserError, match=f"{key} 'x' is unknown; choose from"):
        DataTailor(**{key: "x"})  # type: ignore[arg-type]
