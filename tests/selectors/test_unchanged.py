"""Selections are those of 702c97e, where all of these options were arguments of PreSel itself."""

from __future__ import annotations

import pytest

from presel_lightning.selectors import PreSel
from presel_lightning.selectors.weighting import IRS, WEIGHTINGS, Headroom
from presel_lightning.selectors.within import Coverage, NeighborCentrality, RandomOrder
from tests.selectors.pools import Case, Pair, make_pair
from tests.selectors.test_part import digest

RULES = (NeighborCentrality, Coverage, RandomOrder)
BY_WEIGHTING = {
    "irs": ("128233ae8cb6aea1", "2fa99ca1cf878ba4", "245e9a7fdbb2982c"),
    "size": ("ec1dd84a88683fe7", "7041094c3573ed67", "43a2d9687a226176"),
    "sqrt_size": ("d7a92c7c5be918cf", "a9d3bb919b13cb22", "5b1ae40db21b5d79"),
    "uniform": ("3186df17d5025a05", "d414d72bb63fa00a", "7b6e9dc2a234a585"),
    "headroom": ("48fac8692ed31c8e", "e904453db153c6a1", "2c20d84ace77b4cb"),
    "headroom_error": ("79c9628328e4aa72", "064059c34e0b8aa6", "b8a4c15ac63c3708"),
    "learning_curve": ("a0c92042843f65aa", "138eaedc4b9b4d8d", "5036b7cb6940729b"),
}
"""Digests by weighting, in the order of `RULES`: 40 of the pool, seed 3, 12 images a cluster."""

OTHERS = {
    "6316def51c991751": PreSel(),
    "d4f62e9b2a4cb088": PreSel(allocation="floor"),
    "5dbd567ddfca2499": PreSel(
        within=NeighborCentrality(images_per_cluster=12), allocation="official"
    ),
    "7d8c4397c544de4b": PreSel(IRS(temperature=0.05, shrink=True)),
    "8fdb60fcc64a33ff": PreSel(Headroom(floor=0.3, priors={"twins": 0.5}, cap_flat=True)),
    "011e4da3e796080f": PreSel(
        within=NeighborCentrality(neighbors=2, images_per_cluster=12, near_duplicates=0.3)
    ),
    "c72a68811ae21d35": PreSel(within=RandomOrder(images_per_cluster=10**6)),
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Four tasks of different sizes, one of copies."""
    case = Case({"a": 130, "b": 41, "single": 1, "twins": 12})
    return make_pair(tmp_path_factory.mktemp("unchanged") / "mixed", case)


@pytest.mark.parametrize("weighting", BY_WEIGHTING)
def test_selection_by_every_weighting_and_rule_is_unchanged(weighting: str, mixed: Pair) -> None:
    assert set(BY_WEIGHTING) <= set(WEIGHTINGS)
    found = [
        digest(PreSel(weighting, kind(images_per_cluster=12)).select(*mixed, 40, seed=3))
        for kind in RULES
    ]
    assert tuple(found) == BY_WEIGHTING[weighting]


@pytest.mark.parametrize("expected", OTHERS)
def test_selection_with_other_options_is_unchanged(expected: str, mixed: Pair) -> None:
    assert digest(OTHERS[expected].select(*mixed, 40, seed=3)) == expected
