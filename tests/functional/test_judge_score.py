from __future__ import annotations

import pytest

from presel_lightning.functional.judge_score import parse_score


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("85", 85),
        ("85\nThe caption names the dog.", 85),
        (" 100", 100),
        ("10,", 10),
        ("N/A", None),
        ("", None),
        ("\n\n 7;", 7),
        ("Score: 85/100", 85),
        ("0", 0),
        ("85.5", 85),
        ("101", None),
        ("1000", None),
        ("-5", None),
        ("good\n85", None),
    ],
)
def test_parse_score_reads_the_number_that_a_reply_begins_with(
    reply: str, score: int | None
) -> None:
    assert parse_score(reply) == score
