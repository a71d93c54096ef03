"""Strategies that choose which images get an instruction; one file each."""

from presel_lightning.selectors.base import RankSelector, Selector
from presel_lightning.selectors.from_file import FromFile
from presel_lightning.selectors.in_task import select_in_task
from presel_lightning.selectors.presel import PreSel
from presel_lightning.selectors.random import Random

__all__ = ["FromFile", "PreSel", "Random", "RankSelector", "Selector", "select_in_task"]
