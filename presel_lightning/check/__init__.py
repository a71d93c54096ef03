"""Config, data and model looked at before any GPU second: what is there, what it will cost."""

from presel_lightning.check.examine import check
from presel_lightning.check.report import Report
from presel_lightning.recipe.passes.base import Throughput

__all__ = ["Report", "Throughput", "check"]
