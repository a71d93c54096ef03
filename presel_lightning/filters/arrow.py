"""Arrow columns, NumPy arrays and numbers without `to_numpy`, `pa.array` and `pa.scalar`.

These import pandas where it is installed, which takes longer than a filter of a million rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def as_numpy(column: pa.Array) -> np.ndarray:
    """Values of a column of numbers or truth values, (N,); any value where it is null.

    Numbers are not copied, and cannot be written to.
    """
    if pa.types.is_boolean(column.type):
        return as_numpy(column.cast(pa.uint8())).view(bool)
    if column.null_count:
        values = [None, column.buffers()[1]]
        column = pa.Array.from_buffers(column.type, len(column), values, offset=column.offset)
    return np.from_dlpack(column)


def int64_array(numbers: np.ndarray) -> pa.Array:
    """A column of whole numbers (N,) int64 that lie one behind the other; not copied."""
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


def int64_scalar(number: int) -> pa.Scalar:
    """A whole number."""
    return int64_array(np.array([number], np.int64))[0]
