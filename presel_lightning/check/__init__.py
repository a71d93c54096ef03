"""Config, data and model looked at before any GPU second: what is there, what it will cost."""

from presel_lightning.check.cost import Throughput
from presel_lightning.check.examine import check
from presel_lightning.check.report import Report

__all__ = ["Report", "Throughput", "check"]
