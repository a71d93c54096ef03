"""The score from which on a fraction is kept, against sorting all rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from presel_lightning.filters.clip_score import ClipScore
from presel_lightning.filters.limits import TIE, first_limit, float_of, holding, largest, with_ties
from presel_lightning.filters.rule import HOLDS, Rows
from presel_lightning.filters.uids import scrambled

SINGLE = float(np.float32(0.1))  # a little more than 0.1
SCORE = st.one_of(st.none(), st.sampled_from([-1.0, -0.0, 0.0, 0.1, SINGLE, np.inf, np.nan]))
Files = list[list[tuple[int, float | None]]]


def in_turns(files: Files) -> Files:
    """Scores of every second file in single precision."""
    for some in files[1::2]:
        some[:] = [(uid, None if s is None else float(np.float32(s))) for uid, s in some]
    return files


FILES = st.lists(
    st.lists(st.tuples(st.integers(0, 11), SCORE), max_size=15), min_size=1, max_size=4
).map(in_turns)


def rows_of(files: Files) -> list[Rows]:
    return [
        Rows(
            pa.array([f"{uid:032x}" for uid, _ in some], pa.string()),
            pa.table({"s": pa.array([s for _, s in some], (pa.float64(), pa.float32())[unit % 2])}),
            unit,
        )
        for unit, some in enumerate(files)
    ]


def kept(rule: ClipScore, units: list[Rows]) -> list[int]:
    """Places of the kept rows in the pool, by the steps of `filter`."""
    scores = [rule.population(unit) for unit in units]
    runs = [np.sort(some[~np.isnan(some)]) for some in scores]
    limit, ties = first_limit(rule, runs, sum(map(len, units)))
    if ties >= 0:
        tied = {}
        for number in holding(runs, limit.score):
            rows = np.flatnonzero(scores[number] == np.float64(limit.score))
            keys = scrambled(units[number].uids[rows]).tolist()
            found = np.array(list(zip(keys, rows.tolist(), strict=True)), TIE)
            tied[number] = np.sort(found, order=["key", "row"])
        limit = with_ties(limit, ties, tied)
    verdicts = np.concatenate([rule.verdicts(unit, {rule: limit}) for unit in units])
    return np.flatnonzero(verdicts == HOLDS).tolist()


@example(files=[[(1, 0.1), (2, 0.1)], [(3, SINGLE), (4, SINGLE), (5, SINGLE)]], fraction=0.8)
@settings(max_examples=300)
@given(files=FILES, fraction=st.sampled_from([0.0, 0.1, 0.25, 0.29, 0.5, 1.0]))
def test_exact_keeps_the_best_of_equal_scores_by_scrambled_uid(
    files: Files, fraction: float
) -> None:
    ranked = []
    for place, (uid, score) in enumerate(row for some in files for row in some):
        if score is not None and not np.isnan(score):
            key = int(scrambled(np.array([(0, uid)], "u8,u8"))[0])
            ranked.append((-score, key, place))
    wanted = int(fraction * sum(map(len, files)) + 1e-9)
    rule = ClipScore(fraction=fraction, column="s")
    assert kept(rule, rows_of(files)) == sorted(place for *_, place in sorted(ranked)[:wanted])


@settings(max_examples=200)
@given(files=FILES, fraction=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9]))
def test_published_keeps_all_ties_of_the_score_behind_the_fraction(
    files: Files, fraction: float
) -> None:
    values = np.array([score for some in files for _, score in some], float)
    if not len(values):
        return
    threshold = -np.sort(-values)[int(len(values) * fraction)]  # NaN comes last
    rule = ClipScore(fraction=fraction, ties="published", column="s")
    assert kept(rule, rows_of(files)) == np.flatnonzero(values >= threshold).tolist()


@given(st.lists(st.lists(st.floats(allow_nan=False), max_size=20), max_size=5), st.data())
def test_largest_is_that_of_sorting(parts: list[list[float]], data: st.DataObject) -> None:
    whole = sorted((value + 0.0 for part in parts for value in part), reverse=True)
    if whole:
        position = data.draw(st.integers(0, len(whole) - 1))
        runs = [np.sort(np.array(part) + 0.0) for part in parts]
        assert largest(runs, position) == whole[position]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_floats_have_the_order_of_their_keys(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert float_of(low) <= float_of(high)
