"""Medoids: task budgets by size, one image of each of as many clusters as images are selected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.selectors.size_balanced import SizeBalanced
from presel_lightning.selectors.within import Within


class Medoids(SizeBalanced):
    r"""Allocate the budget to tasks by size, and select one medoid of each cluster.

    .. math:: N_i = \frac{|T_i|}{|D|} \, |D_S|, \qquad K_i = |R_i| + N_i

    A task is clustered into as many clusters as it has images to give beside its reference split
    R_i, and each cluster gives the image nearest to its centroid: the images that are selected cover
    the task without its outliers and without near copies of each other. Needs neither instructions
    nor a reference model.

    Budget: per task, in proportion to its images.

    Args:
        within: how images are selected inside a task: a class with its options, or the short name
            of one with its defaults; see docs/selection.md.

    Raises:
        UserError: the rule is unknown.

    Source: docs/selectors.md has where it was measured, and what that does not show.
    """

    moved: ClassVar[Mapping[str, str]] = {}

    def __init__(self, within: Within | str = "Medoids") -> None:
        super().__init__(within)
