from __future__ import annotations

import numpy as np
import pytest
import torch

from presel_lightning.functional.sketch import draw_sketch, project


def literal(row: torch.Tensor, size: int, width: int, seed: list[int]) -> torch.Tensor:
    """Number by number."""
    sketch = draw_sketch(size, width, seed)
    found = torch.zeros(width)
    for place in range(size):
        block, inside = divmod(place, width)
        goes_to = (inside + int(sketch.shifts[block])) % width
        found[goes_to] += float(sketch.signs[block, inside]) * row[place]
    return found


@pytest.mark.parametrize(("size", "width"), [(1, 8), (8, 8), (37, 8), (5, 1)])
def test_sketch_adds_signed_and_rotated_blocks(size: int, width: int) -> None:
    rows = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
    found = project(rows, draw_sketch(size, width, [4, 2]))
    for row, one in zip(rows, found, strict=True):
        torch.testing.assert_close(one, literal(row, size, width, [4, 2]))


def test_sketch_follows_its_seed_alone() -> None:
    one, same, other = (draw_sketch(100, 16, [seed, 1]) for seed in (0, 0, 5))
    assert torch.equal(one.signs, same.signs) and torch.equal(one.shifts, same.shifts)
    assert not torch.equal(one.signs, other.signs)
    assert set(one.signs.unique().tolist()) == {-1, 1}


def test_inner_products_are_unbiased_with_the_stated_variance() -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(1000, generator=rng)
    y = 0.5 * x + torch.randn(1000, generator=rng)
    width, true = 64, float(x @ y)
    found = []
    for seed in range(400):
        sx, sy = project(torch.stack([x, y]), draw_sketch(1000, width, [seed]))
        found.append(float(sx @ sy))
    bound = float(x @ x * (y @ y) + true**2) / width
    assert abs(np.mean(found) - true) < 4 * (bound / 400) ** 0.5
    assert np.var(found) < 1.3 * bound
