from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from presel_lightning.data.conversation import InvalidRecordError
from presel_lightning.data.json_records import Decoder
from presel_lightning.data.values import picked, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0.0"),
        (False, "no"),
        (True, "yes"),
        (None, ""),
        ("", ""),
        (" 7 ", " 7 "),
        (Decimal("1.10"), "1.10"),
        (10**18 + 1, "1000000000000000001"),
    ],
)
def test_text_of_values(value: Any, text: str) -> None:
    assert text_of(value, "answer") == text


def test_text_of_json_number_keeps_its_digits() -> None:
    value, _, fault = Decoder()("[0.50, 1e3, -0.0, 12.340]")
    assert fault is None and isinstance(value, list)
    assert [text_of(number, "answer") for number in value] == ["0.50", "1e3", "-0.0", "12.340"]


@pytest.mark.parametrize(
    ("value", "problem"), [(["a"], "list_value"), ({}, "bad_value"), (b"a", "bad_value")]
)
def test_text_of_no_text_is_refused(value: Any, problem: str) -> None:
    with pytest.raises(InvalidRecordError, match="`answer`") as caught:
        text_of(value, "answer")
    assert caught.value.problem == problem
    assert problem != "list_value" or "data.answer_lists" in str(caught.value)


def test_picked_takes_one_of_a_list() -> None:
    answers = ["", "red", "dark red", "dark red", 0, 0]
    assert picked(answers, "refuse") == answers
    assert picked(answers, "first") == "red"
    assert picked(answers, "most_common") == "dark red"
    vqa = [{"answer": 0, "answer_id": n} for n in range(2)]
    assert picked(vqa, "most_common") == "0"
    assert picked([None, ""], "first") is None and picked("red", "first") == "red"
