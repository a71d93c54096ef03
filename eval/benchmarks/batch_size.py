"""Batch size of benchmarks, halved on out-of-memory errors."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from presel_lightning.console import console
from presel_lightning.errors import PreselError

T = TypeVar("T")

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Messages of libraries without an out-of-memory error class."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is an out-of-memory error."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


@dataclass
class BatchSize:
    """Batch size of this process, halved permanently on out-of-memory errors.

    Attributes:
        asked: configured batch size, the same on every process.
        fitting: current batch size.
    """

    asked: int
    fitting: int = field(init=False)

    def __post_init__(self) -> None:
        """Start with the configured batch size."""
        self.fitting = self.asked

    def run(self, rows: list[int], answer: Callable[[list[int]], Sequence[T]]) -> list[T]:
        """Answer some rows, in as few parts as fit into memory.

        Args:
            rows: indices of items.
            answer: function from some of them to their answers.

        Returns:
            One answer per row.

        Raises:
            PreselError: a single item does not fit.
        """
        made: list[T] = []
        while len(made) < len(rows):
            part = rows[len(made) : len(made) + self.fitting]
            answers = self._attempt(part, answer)
            if answers is None:
                self._halve(len(part))
            else:
                made += answers
        return made

    @staticmethod
    def _attempt(part: list[int], answer: Callable[[list[int]], Sequence[T]]) -> Sequence[T] | None:
        """Return the answers; None on an out-of-memory error of several items."""
        try:
            return answer(part)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(part) == 1:
                raise PreselError(
                    "a single benchmark item does not fit into the device's memory; lower "
                    "max_new_tokens of the benchmark, or shrink the model with model.dtype or "
                    "model.quantization"
                ) from error
        return None

    def _halve(self, tried: int) -> None:
        """Halve the batch size, and free memory.

        It is called after the error was handled, as its frames hold tensors.
        """
        self.fitting = tried // 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        console.print(
            f"[yellow]![/] {tried} benchmark items at a time do not fit into memory; continuing with "
            f"{self.fitting} (data.eval_batch_size)",
            soft_wrap=True,
        )
