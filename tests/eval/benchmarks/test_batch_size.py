"""Answers are those of every item whatever fits into memory; only sizes change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from presel_lightning.errors import PreselError
from presel_lightning.eval.benchmarks.batch_size import BatchSize, is_out_of_memory

TOO_MUCH = 1 << 50
"""Bytes that no machine has."""


@settings(max_examples=30)  # an attempt that fails collects garbage, which takes time
@given(n=st.integers(0, 40), asked=st.integers(1, 50), limit=st.integers(1, 50))
def test_batch_size_any_limit_gives_every_answer_in_order(n: int, asked: int, limit: int) -> None:
    sizes: list[int] = []

    def answer(part: list[int]) -> list[int]:
        sizes.append(len(part))
        if len(part) > limit:
            raise MemoryError
        return [row * row for row in part]

    size = BatchSize(asked)
    rows = list(range(n))
    assert size.run(rows, answer) == [row * row for row in rows]
    fitting = [tried for tried in sizes if tried <= limit]
    assert sum(fitting) == n and max(sizes, default=0) <= asked
    if failed := [tried for tried in sizes if tried > limit]:
        assert failed == sorted(failed, reverse=True) == sizes[: len(failed)]  # tried once each
        assert size.fitting <= limit and size.asked == asked


def test_batch_size_failed_attempt_is_released_before_the_next() -> None:
    """What an attempt computed must not lie in memory beside that of its second half."""
    alive: list[torch.Tensor] = []
    before: list[int] = []

    class Held(torch.Tensor):
        def __del__(self) -> None:
            alive.pop()

    def answer(part: list[int]) -> list[int]:
        before.append(len(alive))
        held = torch.zeros(8).as_subclass(Held)
        alive.append(torch.zeros(()))
        if len(part) > 1:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        del held
        return part

    assert BatchSize(4).run([1, 2, 3, 4], answer) == [1, 2, 3, 4]
    assert before == [0] * 6


def test_batch_size_single_item_that_does_not_fit_names_the_cure() -> None:
    def answer(part: list[int]) -> list[int]:
        torch.empty(TOO_MUCH, dtype=torch.uint8)
        return part

    with pytest.raises(PreselError, match=r"a single benchmark item .* max_new_tokens"):
        BatchSize(8).run([1, 2, 3], answer)


def test_batch_size_other_errors_are_passed_on() -> None:
    def answer(part: list[int]) -> list[int]:
        raise RuntimeError(f"shapes do not fit: {part}")

    size = BatchSize(8)
    with pytest.raises(RuntimeError, match=r"shapes do not fit: \[1, 2, 3\]"):
        size.run([1, 2, 3], answer)
    assert size.fitting == 8


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        torch.cuda.OutOfMemoryError("HIP out of memory"),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    ],
)
def test_out_of_memory_is_known_by_its_error(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("device-side assert triggered"))
    assert not is_out_of_memory(ValueError("out of memory"))
