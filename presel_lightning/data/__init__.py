"""Annotations and images to a pool, and the pool to batches."""

from presel_lightning.data.build import PoolCounts as PoolCounts
from presel_lightning.data.build import build_pool as build_pool
from presel_lightning.data.build import images_changed as images_changed
from presel_lightning.data.pool import Pool, load_pool
from presel_lightning.data.source import PoolSource as PoolSource
from presel_lightning.data.source import source as source
from presel_lightning.data.task_rules import TaskRule as TaskRule

__all__ = ["Pool", "load_pool"]
