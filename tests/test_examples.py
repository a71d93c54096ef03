"""What the property tests draw."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
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
