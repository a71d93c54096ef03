"""Thread parallelism whose results do not depend on the number of threads.

A matrix product that BLAS splits over threads can differ in its last bits from one that it does
not split, and a last bit can change a label. So the rows are split into blocks instead: each block
is computed by one thread, and results are collected in the order of the blocks.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")


@contextmanager
def single_threaded() -> Iterator[int]:
    """Set torch to one thread inside the block; yield the number of threads outside.

    >>> with single_threaded() as outside:
    ...     torch.get_num_threads()
    1
    """
    outside = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield outside
    finally:
        torch.set_num_threads(outside)


def map_blocks(
    function: Callable[[int, int], Result], n: int, block: int, threads: int
) -> list[Result]:
    """Return the results of ``function(start, stop)`` over the blocks of ``range(n)``, in order.

    Call it inside `single_threaded`, with the number of threads that it yields.

    >>> map_blocks(lambda start, stop: list(range(start, stop)), n=5, block=2, threads=2)
    [[0, 1], [2, 3], [4]]
    """
    starts = range(0, n, block)
    stops = [min(start + block, n) for start in starts]
    if threads == 1:
        return list(map(function, starts, stops))
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(function, starts, stops))
