"""Options of the Trainer that a recipe refuses, and the values of them that change nothing."""

from __future__ import annotations

import pytest

from presel_lightning.cli.trainer import is_unset


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("fast_dev_run", False, True),
        ("fast_dev_run", 0, True),
        ("fast_dev_run", True, False),  # equal to 1.0
        ("fast_dev_run", 3, False),
        ("limit_predict_batches", None, True),
        ("limit_predict_batches", 1.0, True),
        ("limit_predict_batches", 0.0, False),  # equal to false; a pass over nothing never ends
        ("limit_predict_batches", 2.0, False),
    ],
)
def test_refused_option_is_unset_only_where_it_changes_nothing(
    name: str, value: object, expected: bool
) -> None:
    assert is_unset(name, value) is expected
