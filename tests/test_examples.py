"""What tests draw at random."""

from __future__ import annotations

import importlib
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


def drawn() -> list[tuple[int, str, str]]:
    """Examples of one property."""
    found: list[tuple[int, str, str]] = []

    @settings(settings.get_profile("repeatable"), max_examples=300)
    @given(st.integers(), st.text(), st.floats())
    def collect(number: int, text: str, fraction: float) -> None:
        found.append((number, text, repr(fraction)))

    collect()
    return found


def test_examples_do_not_depend_on_the_modules_imported_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn()
    (tmp_path / "constants_of_its_own.py").write_text(f"FOUND = {[*range(9_000, 9_200)]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("constants_of_its_own")
    assert drawn() == before


@pytest.mark.parametrize("number", [1, 2])
def test_global_generators_are_as_new_in_every_test(number: int) -> None:
    found = random.random(), np.random.rand(), torch.rand(1).item()
    expected = random.Random(0), np.random.RandomState(0), torch.Generator().manual_seed(0)
    assert found == (
        expected[0].random(),
        expected[1].rand(),
        torch.rand(1, generator=expected[2]).item(),
    )
