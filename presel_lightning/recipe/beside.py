"""Files beside the pool, such as those of validation and test samples: read as the pool is read."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path

import numpy as np

from presel_lightning.data import build_pool, load_pool
from presel_lightning.data.build import examined_row
from presel_lightning.data.conversation import InvalidRecordError, parse
from presel_lightning.data.held_out import held_out
from presel_lightning.data.pool import Pool
from presel_lightning.data.source import PoolSource, refuse_missing
from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.models.image_text import load_readers
from presel_lightning.recipe.context import Context
from presel_lightning.run.ranks import barrier, rank_zero
from presel_lightning.tasks.block_writer import BlockWriter

COLUMNS = ("image", "text", "similarity")
"""What is computed of a pair."""


def source_beside(data: SelectionDataModule, key: str, path: str) -> PoolSource:
    """Return the source of an annotation file that is read by the options of the pool.

    Args:
        data: the pool's options.
        key: option that names the file, for the message.
        path: its value.

    Raises:
        UserError: the file does not exist.
    """
    refuse_missing(key, [Path(path).expanduser()])
    return data.source_of(path)


def refuse_empty(given: PoolSource, key: str) -> None:
    """Read a file beside the pool up to its first instruction about an image.

    Args:
        given: the file.
        key: name of the option, with its value, for the message.

    Raises:
        UserError: it holds none, or something else than records.
    """
    for entry in given.entries():
        with suppress(InvalidRecordError):
            if "key" in examined_row(entry) and parse(entry.record):
                return
    raise empty(key)


def empty(key: str) -> UserError:
    """Return the error of a file beside the pool without an instruction."""
    return UserError(
        f"{key} has no sample with an instruction; name another file, or leave it unset"
    )


def pool_beside(given: PoolSource, folder: Path, key: str) -> Pool:
    """Build the pool of a file beside the pool in a folder, on the first process, and open it.

    Args:
        given: the file.
        folder: where the pool is written.
        key: name of the option, with its value, for the message.

    Raises:
        UserError: no sample has an instruction.
    """
    if rank_zero():
        folder.mkdir(parents=True, exist_ok=True)
        build_pool(given, folder)
    barrier()
    return opened(given, folder, key)


def opened(given: PoolSource, folder: Path, key: str) -> Pool:
    """Open the pool of a file beside the pool; see `pool_beside`."""
    pool = load_pool(folder, given.image_root)
    if not pool.has_instruction.any():
        raise empty(key)
    return pool


def hold_out(context: Context) -> None:
    """Take the pairs out of the pool that retrieval is scored on, where no file holds them.

    Raises:
        UserError: too few samples are left on one side.
    """
    keys, pool = context.plan.two_tower, context.data.pool
    if keys is None or keys.test is not None:
        return
    held, rest = pool.parted(held_out(pool, keys.held_out))
    if len(held) < 2 or len(rest) < 2:
        raise UserError(
            f"two_tower.held_out is {keys.held_out}: {len(held)} of {len(pool)} samples are held out "
            "to be scored on, by whole pictures, and two are needed on both sides; set it to another "
            "fraction, or name a file in two_tower.test"
        )
    context.held_out, context.data.pool = held, rest
    context.runner.print(f"  held out, to be scored on: {len(held)} of {len(pool)} samples")


def pairs_of(pool: Pool) -> np.ndarray:
    """Mark the samples that are pairs of one image and a text, (N,) bool."""
    has: np.ndarray = pool.has_instruction.copy()
    has[pool.rows(list(pool.several))] = False
    return has


def embedded(context: Context, pool: Pool, folder: Path) -> dict[str, np.ndarray]:
    """Compute `image`, `text` and `similarity` of the pairs of another pool, block by block.

    Args:
        context: of the run.
        pool: whose `pairs_of` are embedded.
        folder: of the blocks; its name says what they depend on.

    Returns:
        The columns (V, ...), memory-mapped.
    """
    data = copy.copy(context.data)
    data.pool = pool
    module = context.factory.similarity()
    blocks = data.match(pool.uid[pairs_of(pool)], *load_readers(module.checkpoint))
    writer = BlockWriter(folder, blocks)
    writer.fill(context.factory.trainer("similarity", context.out / "logs" / "test"), module, data)
    if rank_zero():
        writer.merge()
    barrier()
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
