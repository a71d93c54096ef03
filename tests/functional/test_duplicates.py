import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional import similarity_to_earlier


@given(st.integers(1, 40), st.integers(0, 10**6))
def test_similarity_to_earlier_matches_a_literal_loop(n: int, seed: int) -> None:
    rows = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    found = similarity_to_earlier(rows)
    vectors = rows.double().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert found[0] == -1
    for i in range(1, n):
        expected = max(float(vectors[i] @ vectors[j]) for j in range(i))
        assert abs(float(found[i]) - expected) < 1e-12


def test_similarity_to_earlier_in_blocks_matches_the_full_matrix() -> None:
    rows = torch.randn(5000, 8, generator=torch.Generator().manual_seed(0))
    rows[4700] = rows[600]
    found = similarity_to_earlier(rows)
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    expected = (unit @ unit.T).masked_fill_(torch.ones(5000, 5000).triu().bool(), -1).amax(dim=1)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert found[4700] > 1 - 1e-12
