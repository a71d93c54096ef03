"""`uids`: rows that a subset file lists, such as those of Data Filtering Networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from presel_lightning.filters.rule import Limit, Names, Rows, Rule, verdicts_of
from presel_lightning.filters.uid_files import sorted_uids
from presel_lightning.filters.uids import UID, positions


@dataclass(frozen=True)
class InUids(Rule):
    """The uid stands in a subset file.

    Args:
        path: DataComp's sorted `.npy`, such as `datacomp_medium_dfn_20m_inds.npy`.
    """

    path: str

    def columns(self) -> Sequence[Names]:
        """None beside the uid."""
        return ()

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """Whether the file lists the uid."""
        table = sorted_uids(self.path)
        if not len(table):
            return verdicts_of(np.zeros(len(rows), bool))
        place = positions(table, rows.uids)
        found = table[np.minimum(place, len(table) - 1)]
        return verdicts_of((place < len(table)) & (np.asarray(found, UID) == rows.uids))
