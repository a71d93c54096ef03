"""Sizes of parts of a pool, as fractions or counts."""

from __future__ import annotations

from presel_lightning.errors import UserError

Size = int | float


def count_of(size: Size, n: int, key: str) -> int:
    """Samples that a fraction (0 < x <= 1) or a count (an integer from 2) asks for, of n.

    Raises:
        UserError: it is neither, or more than there is.
    """
    if 0 < size <= 1:
        return max(1, round(size * n))
    if isinstance(size, int) and 2 <= size <= n:
        return size
    cure = f"give a fraction 0 < x <= 1 or a whole number from 2 to {n} (the size of the pool)"
    raise UserError(f"{key} is {size}; {cure}")
