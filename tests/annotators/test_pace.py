from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.annotators.pace import retry_after


@given(st.floats(0, 1e6))
def test_retry_after_number_is_seconds_decimals_too(seconds: float) -> None:
    assert retry_after(str(seconds)) == seconds


@given(st.integers(10, 10**6))
def test_retry_after_date_is_seconds_until_then(seconds: int) -> None:
    begin = datetime.now(UTC)
    found = retry_after(format_datetime(begin + timedelta(seconds=seconds), usegmt=True))
    took = (datetime.now(UTC) - begin).total_seconds()
    assert seconds - 1 - took <= found <= seconds  # the date has whole seconds


@pytest.mark.parametrize("value", [None, "", "soon", "-3", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_retry_after_without_future_time_is_zero(value: str | None) -> None:
    assert retry_after(value) == 0.0
