"""Checks of config, data and model before a run, with estimates of its cost."""

from presel_lightning.check.examine import check
from presel_lightning.check.report import Report
from presel_lightning.recipe.passes.base import Throughput

__all__ = ["Report", "Throughput", "check"]
