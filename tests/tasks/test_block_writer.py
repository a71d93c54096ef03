"""Blocks of a pass that lie there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from presel_lightning.loading.samplers import even_blocks
from presel_lightning.run.progress import Progress, measuring
from presel_lightning.run.time_left import PlannedWork
from presel_lightning.tasks.block_writer import BlockWriter


def test_fill_takes_blocks_that_an_earlier_start_made_off_the_planned_work(tmp_path: Path) -> None:
    """The first of two passes of a stage, as at two checkpoints, of ten samples each."""
    progress = Progress()
    progress.plan(["gradients"], [PlannedWork("gradients", "gradients", 20.0)])
    progress.start("gradients")
    writer = BlockWriter(tmp_path, even_blocks(10, 4))
    for block in range(3):
        writer.path(block).touch()
    trainer: Any = None  # there is nothing to compute
    with measuring(progress):
        writer.fill(trainer, trainer, trainer)
    assert [work.amount for work in progress.planned] == [10.0]
