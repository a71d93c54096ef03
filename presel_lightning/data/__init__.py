"""Annotations and images to a pool, and the pool to batches."""

from presel_lightning.data.build import PoolCounts, build_pool, images_changed
from presel_lightning.data.pool import Pool, load_pool
from presel_lightning.data.source import PoolSource, source
from presel_lightning.data.task_rules import TaskRule

__all__ = [
    "Pool",
    "PoolCounts",
    "PoolSource",
    "TaskRule",
    "build_pool",
    "images_changed",
    "load_pool",
    "source",
]
