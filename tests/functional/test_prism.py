import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from presel_lightning.functional import mean_correlation


@given(st.integers(1, 25), st.integers(0, 10**6))
def test_mean_correlation_matches_scipy_pearsonr(n: int, seed: int) -> None:
    rows = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    x = rows.double().numpy()
    expected = [np.mean([pearsonr(x[i], x[j]).statistic for j in range(n)]) for i in range(n)]
    np.testing.assert_allclose(mean_correlation(rows), expected, atol=1e-12)


def test_mean_correlation_in_blocks_matches_numpy() -> None:
    rows = torch.randn(9000, 3, generator=torch.Generator().manual_seed(0))
    expected = np.corrcoef(rows.double().numpy()).mean(axis=1)
    np.testing.assert_allclose(mean_correlation(rows), expected, atol=1e-12)


def test_mean_correlation_of_constant_row_is_zero() -> None:
    rows = torch.tensor([[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
    np.testing.assert_allclose(mean_correlation(rows), [0.0, 0.5])
