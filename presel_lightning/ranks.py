"""What the processes of one run must do together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only

T = TypeVar("T")


def grouped() -> bool:
    """Whether the processes can talk to each other yet (Lightning joins them at the first fit)."""
    return dist.is_available() and dist.is_initialized()


def rank_zero() -> bool:
    """Whether this process is the first."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def place() -> tuple[int, int]:
    """This process's rank and the number of processes, as far as they are joined."""
    return (dist.get_rank(), dist.get_world_size()) if grouped() else (0, 1)


def agree(decide: Callable[[], T]) -> T:
    """Let the first process decide for all; each decides alone while they are not joined."""
    if not grouped():
        return decide()
    box: list[T | None] = [decide() if rank_zero() else None]
    dist.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[return-value]


def gather(rows: list[T]) -> list[T]:
    """The rows of all processes, in the order of their ranks, on every process."""
    if not grouped():
        return rows
    parts: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]
