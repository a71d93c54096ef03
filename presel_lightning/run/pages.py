"""Where the pages of the documentation lie, which the package brings along."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def page(name: str) -> str:
    """Return the path of a page of `docs/`, for a message."""
    return str(DOCS / name)
