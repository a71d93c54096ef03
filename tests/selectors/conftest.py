from __future__ import annotations

import pytest

from tests.selectors.pools import Case, Pair, make_pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two tasks, a group of copies, a reference split."""
    case = Case({"a": 70, "b": 25, "twins": 8}, reference=7)
    return make_pair(tmp_path_factory.mktemp("pair"), case)


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The same without a reference split."""
    case = Case({"a": 70, "b": 25, "twins": 8}, reference=0)
    return make_pair(tmp_path_factory.mktemp("bare"), case)
