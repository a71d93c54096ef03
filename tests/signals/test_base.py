"""Columns of a signal from the blocks of a pass: the same bytes, and the space that `check` counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from presel_lightning.loading.samplers import even_blocks
from presel_lightning.recipe.passes import GradientsPass
from presel_lightning.recipe.passes.base import Work
from presel_lightning.run.files import write_json
from presel_lightning.signals import Gradients, base
from presel_lightning.tasks.block_writer import BlockWriter
from tests.selectors.pools import Case, make_pool

WIDTH = 4096


def blocks_of(folder: Path, n: int) -> BlockWriter:
    """Blocks of made-up gradients, as a pass leaves them."""
    writer = BlockWriter(folder, even_blocks(n, 8))
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(n, WIDTH)))
    trainer: Any = None
    for rows in writer.blocks:
        part = {"direction": values[rows].half(), "length": values[rows, 0].float()}
        batch = {"first": int(rows[0])}
        writer.write_on_batch_end(trainer, trainer, part, None, batch, 0, 0)
    return writer


def size_of(*folders: Path) -> int:
    return sum(p.stat().st_size for each in folders for p in each.rglob("*.np[yz]"))


def test_columns_of_a_pass_take_no_more_space_than_check_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(tmp_path / "pool", Case({"a": 40}))
    has, peak = np.ones(len(pool), dtype=bool), [0]
    writer = blocks_of(tmp_path / "work", len(pool))

    def measured(path: Path, value: object) -> None:
        """All columns are there when the facts are written."""
        peak.append(size_of(tmp_path / "work", tmp_path / "moved"))
        write_json(path, value)

    monkeypatch.setattr(base, "write_json", measured)
    moved = Gradients(tmp_path / "moved" / "signals")
    moved.write(pool, has, writer.merge(), {}, move=True)
    work = Work(0, 0, {}, len(pool), gradient_width=WIDTH)
    assert 0 < max(peak) < 1.05 * GradientsPass.disk(work, 0, 0)
    copied = Gradients(tmp_path / "copied" / "signals")
    copied.write(pool, has, merged := writer.merge(), {})
    assert sorted(merged) == ["direction", "length"]
    for name, values in merged.items():
        assert (tmp_path / "work" / f"{name}.npy").exists()  # what is copied stays
        assert np.array_equal(moved.column(name), values)
        assert (moved.path / f"{name}.npy").read_bytes() == (copied.path / f"{name}.npy").read_bytes()  # fmt: skip


def test_moved_columns_are_copied_where_they_are_no_whole_file_of_their_own(
    tmp_path: Path,
) -> None:
    pool = make_pool(tmp_path / "pool", Case({"a": 16}))
    has = np.ones(len(pool), dtype=bool)
    merged = blocks_of(tmp_path / "work", 2 * len(pool)).merge()
    file = tmp_path / "work" / "length.npy"
    columns = {"part": merged["direction"][16:], "read": np.load(file, mmap_mode="r")[:16]}
    signal = Gradients(tmp_path / "signals")
    signal.write(pool, has, {**columns, "plain": np.arange(16)}, {}, move=True)
    assert file.exists() and (tmp_path / "work" / "direction.npy").exists()
    assert np.array_equal(signal.column("part"), columns["part"])
    assert np.array_equal(signal.column("read"), columns["read"])
    assert signal.column("plain").tolist() == list(range(16))
