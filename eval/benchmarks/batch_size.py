"""How many items a model answers at a time: as many as asked for, fewer where memory runs out."""

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
"""What libraries say that raise no error of their own kind."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


@dataclass
class BatchSize:
    """Items at a time, on this process halved for good when they do not fit into its memory.

    Attributes:
        asked: how many the configuration says, the same on every process.
        fitting: how many fit, as far as is known.
    """

    asked: int
    fitting: int = field(init=False)

    def __post_init__(self) -> None:
        """Begin with what is asked for."""
        self.fitting = self.asked

    def run(self, rows: list[int], answer: Callable[[list[int]], Sequence[T]]) -> list[T]:
        """Answer some rows, in as few parts as fit.

        Args:
            rows: items.
            answer: some of them to their answers.

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
        """The answers; None where they do not fit into memory together."""
        try:
            return answer(part)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(part) == 1:
                raise PreselError(
                    "one benchmark item alone does not fit into the device's memory; lower "
                    "max_new_tokens of the benchmark, or give the model less with model.dtype or "
                    "model.quantization"
                ) from error
        return None

    def _halve(self, tried: int) -> None:
        """Go on with half of what did not fit.

        The error is gone by now, and with it its frames, which held what was computed.
        """
        self.fitting = tried // 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        console.print(
            f"[yellow]![/] {tried} benchmark items at a time do not fit into memory; going on with "
            f"{self.fitting} (data.eval_batch_size)",
            soft_wrap=True,
        )
