"""Room for text in charts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presel_lightning.eval.report.layout import (
    fitted,
    range_labels,
    text_width,
    tick_labels,
    ticks,
    ticks_within,
)


@given(text=st.text(min_size=1, max_size=60), room=st.floats(15, 400))
@settings(max_examples=30)
def test_fitted_text_has_room_and_keeps_both_ends(text: str, room: float) -> None:
    short = fitted(text, room)
    assert text_width(short) <= room
    if short != text and len(short) > 2:
        assert "…" in short and text.startswith(short[0]) and text.endswith(short[-1])


def test_fitted_text_that_has_room_is_not_shortened() -> None:
    assert fitted("PreSel (final)", 400) == "PreSel (final)"


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6))
@settings(max_examples=60)
def test_ticks_are_few_evenly_spaced_and_contain_the_range(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 5
    step = found[1] - found[0]
    assert found[0] <= low + 1e-6 * step and found[-1] >= low + span - 1e-6 * step
    gaps = [b - a for a, b in pairwise(found)]
    assert gaps == pytest.approx([step] * len(gaps), rel=1e-6)


@pytest.mark.parametrize(("low", "high"), [(-12000, 3), (-0.0004, 0.0), (-1, 1), (0, 9e9)])
def test_ticks_within_have_room_side_by_side(low: float, high: float) -> None:
    marks, texts = ticks_within(low, high, 180)
    assert marks[0] <= low and marks[-1] >= high and 0.0 in marks
    assert max(map(text_width, texts)) <= 180 / (len(marks) - 1)


@pytest.mark.parametrize(
    ("marks", "texts"),
    [
        ([2.3e-05, 0.5, 0.99998], ["0", "0.5", "1"]),
        ([0.99991, 0.99995, 0.99999], ["0.99991", "0.99995", "0.99999"]),
        ([-0.915, -0.4575, 0.0], ["-0.915", "-0.458", "0"]),
        ([1200.4, 3000.0, 9000.0], ["1,200", "3,000", "9,000"]),
        ([0.25, 0.25, 0.25], ["0.25"] * 3),
    ],
)
def test_range_labels_are_short_and_differ_where_the_range_is_small(
    marks: list[float], texts: list[str]
) -> None:
    assert range_labels(marks) == texts


def test_tick_labels_tell_neighbors_apart() -> None:
    assert tick_labels(ticks(1233.9, 1234.5)) == [
        "1,233.8",
        "1,234.0",
        "1,234.2",
        "1,234.4",
        "1,234.6",
    ]
    assert tick_labels([-25.0, 0.0, 25.0]) == ["-25", "0", "25"]
    assert tick_labels(ticks(0, 3e-9)) == ["0", "1e-09", "2e-09", "3e-09"]


def test_ticks_are_round_numbers() -> None:
    assert ticks(-31.2, 12.5) == [-40.0, -20.0, 0.0, 20.0]
    assert ticks(0.0, 0.3) == [0.0, 0.1, 0.2, 0.3]
    assert 0.0 in ticks(-0.01, 7.0)
