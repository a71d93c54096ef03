"""Selectors x budgets x seeds on equal terms, every cell a run folder of its own."""

from presel_lightning.compare.cells import Cell, Grid
from presel_lightning.compare.command import compare

__all__ = ["Cell", "Grid", "compare"]
