from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from presel_lightning.functional import centrality, neighbor_centrality


def literal(features: Tensor, labels: Tensor, k: int) -> list[float]:
    """Eq. 7, one pair at a time."""
    vectors = features.double().numpy()
    result = []
    for i, here in enumerate(vectors):
        similar = sorted(
            (
                float(np.dot(here, there) / (np.linalg.norm(here) * np.linalg.norm(there)))
                for j, there in enumerate(vectors)
                if j != i and labels[j] == labels[i]
            ),
            reverse=True,
        )
        nearest = similar[: min(k, len(similar))]
        result.append(sum(nearest) / len(nearest) if nearest else 0.0)
    return result


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 7), st.integers(0, 10**6))
def test_neighbor_centrality_matches_a_literal_loop(
    n: int, clusters: int, k: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 5, generator=generator)
    labels = torch.randint(0, clusters, (n,), generator=generator)
    expected = literal(features, labels, k)
    np.testing.assert_allclose(neighbor_centrality(features, labels, k), expected, atol=1e-12)


def test_neighbor_centrality_does_not_depend_on_block_size() -> None:
    features, labels = torch.randn(300, 8), torch.randint(0, 3, (300,))
    whole = neighbor_centrality(features, labels)
    with patch.object(centrality, "_ROWS", 7), patch.object(centrality, "_COLUMNS", 3):
        blocks = neighbor_centrality(features, labels)
    torch.testing.assert_close(blocks, whole, rtol=0, atol=1e-12)


def test_neighbor_centrality_counts_duplicates_as_neighbors() -> None:
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    assert neighbor_centrality(features, torch.tensor([4, 4, 9])).tolist() == [1, 1, 0]


def test_neighbor_centrality_accepts_half_precision_and_zeros() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], dtype=torch.float16)
    scores = neighbor_centrality(features, torch.zeros(3, dtype=torch.int64))
    np.testing.assert_allclose(scores, [2**-0.5 / 2, 0, 2**-0.5 / 2], atol=1e-12)


def test_neighbor_centrality_label_length_mismatch_raises() -> None:
    with pytest.raises(ValueError, match="one label a row"):
        neighbor_centrality(torch.ones(3, 2), torch.zeros(2))
