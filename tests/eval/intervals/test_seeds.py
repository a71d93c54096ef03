from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from presel_lightning.eval.intervals.seeds import holm, mean_sd, overlap, paired_difference

VALUES = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=2, max_size=12
).map(lambda pairs: [(a / 10, b / 10) for a, b in pairs])


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_mean_sd_matches_numpy(values: list[float]) -> None:
    mean, deviation = mean_sd(values)
    assert mean == pytest.approx(np.mean(values), abs=1e-9)
    assert deviation == pytest.approx(np.std(values, ddof=1), abs=1e-9)


def test_mean_sd_of_one_value_has_no_deviation() -> None:
    assert mean_sd([3.5]) == (3.5, None)
    found = paired_difference([3.0], [1.0])
    assert found == (2.0, None, None, None, 1)


@given(VALUES)
def test_paired_difference_matches_students_t(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = map(list, zip(*pairs, strict=True))
    differences = np.array(ours) - np.array(theirs)
    n = len(pairs)
    assume(differences.std() >= 1e-6)
    found = paired_difference(ours, theirs)
    mean, error = differences.mean(), differences.std(ddof=1) / math.sqrt(n)
    reach = stats.t.ppf(0.975, n - 1) * error
    assert found.mean == pytest.approx(mean, abs=1e-9)
    assert found.low == pytest.approx(mean - reach, abs=1e-6)
    assert found.high == pytest.approx(mean + reach, abs=1e-6)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(mean) / error, n - 1), rel=1e-6)
    assert found.n == n


def test_paired_difference_interval_matches_the_t_table() -> None:
    """12 seeds: t(0.975, 11) = 2.201."""
    theirs = [0.0] * 12
    ours = [1.0, -1.0] * 5 + [4.0, 2.0]  # mean 0.5, sd sqrt(27 / 11)
    found = paired_difference(ours, theirs)
    assert found.mean == 0.5
    reach = 2.201 * math.sqrt(27 / 11) / math.sqrt(12)
    assert found.high == pytest.approx(0.5 + reach, abs=1e-3)


def test_paired_difference_of_equal_differences_has_no_interval() -> None:
    assert paired_difference([2.0, 3.0], [1.0, 2.0]) == (1.0, None, None, None, 2)
    assert paired_difference([2.0, 3.0], [2.0, 3.0]) == (0.0, None, None, None, 2)
    # equal but for rounding
    found = paired_difference([36.1, 37.3, 35.7], [35.1, 36.3, 34.7])
    assert found.mean == pytest.approx(1.0) and found.p is None


def test_holm_matches_a_worked_example() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 gives 0.02, 0.03, 0.06, 0.04 -> 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=10))
def test_holm_matches_its_definition(p_values: list[float]) -> None:
    m = len(p_values)
    expected = []
    ordered = sorted(p_values)
    for p in p_values:
        steps = [min(1.0, (m - j) * ordered[j]) for j in range(ordered.index(p) + 1)]
        expected.append(max(steps))
    assert holm(p_values) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_the_same_as_the_step_down_procedure(
    p_values: list[float], level: float
) -> None:
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    rejected = set()
    for place, index in enumerate(order):
        if p_values[index] * (len(p_values) - place) > level:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(holm(p_values)) if p <= level} == rejected


def test_overlap_is_the_jaccard_index() -> None:
    assert overlap({"a", "b", "c"}, {"b", "c", "d"}) == 0.5
    assert overlap(set(), set()) == 1.0
    assert overlap({"a"}, {"b"}) == 0.0
