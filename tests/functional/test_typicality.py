import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.functional import typical_first, typicality


@st.composite
def clusters(draw: st.DrawFn) -> Tensor:
    """Rows of unit length, some of them copies."""
    n = draw(st.integers(1, 60))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    rows = normalize(torch.randn(n, 4, generator=generator), dim=1)
    copies = draw(st.integers(0, n // 2))
    rows[:copies] = rows[n - copies :].clone()
    return rows


def literal(rows: np.ndarray, k: int) -> np.ndarray:
    """Equation 4, one row at a time."""
    result = np.zeros(len(rows))
    width = min(k, len(rows) // 2)
    for i in range(len(rows)):
        others = np.delete(rows, i, axis=0)
        if width:
            nearest = np.sort(np.linalg.norm(others - rows[i], axis=1))[:width]
            result[i] = 1 / (nearest.mean() + 1e-5)
    return result


@given(clusters(), st.integers(1, 25))
def test_typicality_is_the_inverse_mean_neighbor_distance(rows: Tensor, k: int) -> None:
    np.testing.assert_allclose(typicality(rows, k), literal(rows.double().numpy(), k), rtol=1e-5)


@given(clusters(), st.integers(1, 25), st.integers(0, 60))
def test_typical_first_matches_a_search_from_scratch(rows: Tensor, k: int, count: int) -> None:
    count = min(count, len(rows))
    found = typical_first(rows, count, k)
    left = list(range(len(rows)))
    for pick in found.rows.tolist():
        expected = literal(rows[left].double().numpy(), k)
        assert expected[left.index(pick)] >= expected.max() * (1 - 1e-5)
        if len(left) > 1:
            np.testing.assert_allclose(
                found.typicality[pick], expected[left.index(pick)], rtol=1e-5
            )
        left.remove(pick)
    assert len(set(found.rows.tolist())) == count


def test_typicality_in_blocks_matches_cdist() -> None:
    rows = normalize(torch.randn(4500, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    distance = np.sort(cdist(rows.double(), rows.double()), axis=1)[:, 1:21].mean(axis=1)
    np.testing.assert_allclose(typicality(rows), 1 / (distance + 1e-5), rtol=1e-6)


def test_typical_first_duplicates_keep_row_order() -> None:
    rows = normalize(torch.tensor([[1.0, 0.3, 0.1]] * 6), dim=1)
    assert typical_first(rows, 6).rows.tolist() == [0, 1, 2, 3, 4, 5]
