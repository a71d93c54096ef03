"""Arrow columns as NumPy arrays, beside what pyarrow makes of them with pandas."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.filters.arrow import as_numpy, int64_array, int64_scalar
from presel_lightning.filters.scored import as_scores

TYPES = {
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.int64(): st.integers(-(2**53), 2**53),
    pa.bool_(): st.booleans(),
}


@pytest.mark.parametrize("kind", TYPES)
@given(data=st.data())
def test_as_numpy_of_any_slice_equals_to_numpy(kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | TYPES[kind], max_size=20))
    column = pa.array(values, kind)[data.draw(st.integers(0, 20)) :]
    known = column.drop_null()
    found = as_numpy(column)[np.array(column.is_valid().to_pylist(), bool)]
    np.testing.assert_array_equal(found, known.to_numpy(zero_copy_only=False))
    assert found.dtype == kind.to_pandas_dtype()


@given(st.lists(st.none() | st.floats(width=32), max_size=20), st.integers(0, 20))
def test_as_scores_is_nan_where_null(values: list[float | None], start: int) -> None:
    column = pa.array(values, pa.float32())[start:]
    expected = [np.nan if value is None else value for value in column.to_pylist()]
    np.testing.assert_array_equal(as_scores(column, ("s",)), np.array(expected, np.float32))


def test_int64_array_and_int64_scalar_are_whole_numbers() -> None:
    assert int64_array(np.array([3, -1])).equals(pa.array([3, -1], pa.int64()))
    assert int64_array(np.empty(0, np.int64)).equals(pa.array([], pa.int64()))
    assert int64_scalar(7) == pa.scalar(7, pa.int64())
