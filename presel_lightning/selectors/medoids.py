"""Medoids: task budgets by size, one image of each of as many clusters as images are selected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.run.ranges import Fraction
from presel_lightning.selectors.size_balanced import SizeBalanced
from presel_lightning.selectors.within import Medoids as OneOfEachCluster
from presel_lightning.selectors.within.clusters import Device


class Medoids(SizeBalanced):
    r"""Allocate the budget to tasks by size, and select one medoid of each cluster.

    .. math:: N_i = \frac{|T_i|}{|D|} \, |D_S|, \qquad K_i = |R_i| + N_i

    A task is clustered into as many clusters as it has images to give beside its reference split
    R_i, and each cluster gives the image nearest to its centroid: the images that are selected cover
    the task without its outliers and without near copies of each other. Needs neither instructions
    nor a reference model. `SizeBalanced` takes other rules inside a task by its `within`.

    Budget: per task, in proportion to its images.

    Args:
        near_duplicates: cosine similarity above which an image counts as a near duplicate of
            another of its cluster and comes last, such as 0.98.
        device: device of the clustering: `cpu`, `cuda`, or `auto` for a GPU if there is one.
            Each kind of device gives the same selection on every machine; the two may differ.

    Raises:
        UserError: a GPU is requested and missing.

    Source: docs/selectors.md has where it was measured, and what that does not show.
    """

    moved: ClassVar[Mapping[str, str]] = {}

    # no `within`: of a class that another takes the place of, jsonargparse keeps the arguments whose
    # names the other has too, and that of the default selector would take the place of this rule
    def __init__(self, near_duplicates: Fraction | None = None, device: Device = "cpu") -> None:
        super().__init__(OneOfEachCluster(near_duplicates, device))
