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
    "irs": ("e0686abf152dea5e", "874b16f7e07b03a7", "fc427248e16e1ae7"),
    "size": ("aef319d0c8b1aa7d", "257633abf3f8780f", "171afe5fa446df0d"),
    "sqrt_size": ("a4b964136a7f4fcc", "37c9e76d13360929", "4cdc9606b08a06e0"),
    "uniform": ("1fdbe220759f406e", "0f30df4a27b760fc", "2c2e86698499b39b"),
    "headroom": ("701adab305229473", "e4d30885b1a7104f", "e0a656626ab3daea"),
    "headroom_error": ("3d425d6d8483edf0", "0061d086e55a9c66", "e281aa50b93b9b25"),
    "learning_curve": ("871baefbc150cad2", "77393c559f684a6c", "7dd41a4b5a6ddcbc"),
}
"""Digests by weighting, in the order of `RULES`: 40 of the pool, seed 3, 12 images a cluster."""

OTHERS = {
    "79e79f0eaa963044": PreSel(),
    "81571f5cf1f8188d": PreSel(allocation="floor"),
    "4c53dc5fe8f5cc19": PreSel(
        within=NeighborCentrality(images_per_cluster=12), allocation="official"
    ),
    "5f768b271cc1ae97": PreSel(IRS(temperature=0.05, shrink=True)),
    "ef35ff933d0f4c30": PreSel(Headroom(floor=0.3, priors={"twins": 0.5}, cap_flat=True)),
    "09af23c09fbf7922": PreSel(
        within=NeighborCentrality(neighbors=2, images_per_cluster=12, near_duplicates=0.3)
    ),
    "8082cfd91628a776": PreSel(within=RandomOrder(images_per_cluster=10**6)),
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
