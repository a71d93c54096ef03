"""Rules that select inside one task; one file each."""

from presel_lightning.selectors.part import part_of
from presel_lightning.selectors.within.base import Selected, Within, select_in_tasks
from presel_lightning.selectors.within.clusters import InClusters
from presel_lightning.selectors.within.coverage import Coverage
from presel_lightning.selectors.within.facility import Facility
from presel_lightning.selectors.within.medoids import Medoids
from presel_lightning.selectors.within.neighbor_centrality import NeighborCentrality
from presel_lightning.selectors.within.random_order import RandomOrder

WITHIN: dict[str, type[Within]] = {
    "centrality": NeighborCentrality,
    "nc": NeighborCentrality,
    "coverage": Coverage,
    "facility": Facility,
    "medoids": Medoids,
    "random": RandomOrder,
}
"""Rules by their short name in a config."""


def within_of(given: Within | str) -> Within:
    """Return a rule as it is, or the one of a short name with its default options.

    Raises:
        UserError: the name is unknown.
    """
    return part_of(given, "within", WITHIN, Within)


__all__ = [
    "WITHIN",
    "Coverage",
    "Facility",
    "InClusters",
    "Medoids",
    "NeighborCentrality",
    "RandomOrder",
    "Selected",
    "Within",
    "select_in_tasks",
    "within_of",
]
