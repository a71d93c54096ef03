"""Tests on the data of ../shared, which lies beside a checkout and is no part of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture(scope="session", autouse=True)
def shared() -> Path:
    """The folder; where it is absent, and only there, these tests are skipped."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the checkout")
    return SHARED
