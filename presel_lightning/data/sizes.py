"""Sizes of a selection: a fraction of the pool, or a count."""

from __future__ import annotations

from numbers import Integral, Real

from presel_lightning.errors import UserError


def count_of(size: float, n: int, key: str) -> int:
    """Samples that a fraction (0 < x <= 1) or a count (an integer from 2) asks for, of n.

    Raises:
        UserError: it is neither, or more than there is.
    """
    if isinstance(size, Real) and 0 < size <= 1:
        return max(1, round(size * n))
    if isinstance(size, Integral) and 2 <= size <= n:
        return int(size)
    cure = f"give a fraction 0 < x <= 1 or a whole number from 2 to {n} (the size of the pool)"
    raise UserError(f"{key} is {size if isinstance(size, Real) else repr(size)}; {cure}")
