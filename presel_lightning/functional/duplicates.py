"""Similarity of an image to earlier images, for deduplication."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

# rows and columns of one similarity block; memory is bounded by them
_ROWS, _COLUMNS = 1024, 4096


def similarity_to_earlier(features: Tensor) -> Tensor:
    r"""Compute each row's largest cosine similarity to an earlier row.

    .. math:: m(i) = \max_{j < i} \cos(x_i, x_j)

    Args:
        features: (n, D) of a float dtype, in order of preference.

    Returns:
        (n,) float64; -1 for the first row.

    Source: SemDeDup (Abbas et al. 2023), Algorithm A7: row i is dropped where m(i) > 1 - eps.

    >>> similarity_to_earlier(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    tensor([-1.,  0.,  1.], dtype=torch.float64)
    """
    vectors = normalize(features.double(), dim=1)  # (n, D)
    result = torch.full((len(vectors),), -1.0, dtype=torch.float64)
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        for first in range(0, start + len(rows), _COLUMNS):
            similarity = rows @ vectors[first : first + _COLUMNS].T  # (B, columns)
            later = torch.ones_like(similarity, dtype=torch.bool).triu(start - first)
            block = similarity.masked_fill_(later, -1.0).amax(dim=1)
            result[start : start + _ROWS] = torch.maximum(result[start : start + _ROWS], block)
    return result
