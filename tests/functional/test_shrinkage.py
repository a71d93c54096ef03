from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional.shrinkage import shrink_to_mean

FLOATS = st.floats(-10, 10)
GROUPS = st.lists(
    st.tuples(FLOATS | st.just(math.nan), st.floats(0, 3) | st.just(math.nan)),
    min_size=1,
    max_size=8,
)


def literal(means: list[float], errors: list[float]) -> list[float]:
    """The formula of the docstring, a group at a time."""
    known = [i for i, mean in enumerate(means) if math.isfinite(mean)]
    usual = [error**2 for error in errors if math.isfinite(error)]
    if len(known) < 2 or not usual:
        return means
    variance = [e**2 if math.isfinite(e) else sum(usual) / len(usual) for e in errors]
    centre = sum(means[i] for i in known) / len(known)
    spread = sum((means[i] - centre) ** 2 for i in known) / (len(known) - 1)
    between = max(0.0, spread - sum(variance[i] for i in known) / len(known))
    result = []
    for mean, own in zip(means, variance, strict=True):
        total = between + own
        result.append((between * mean + own * centre) / total if total > 0 else mean)
    return result


def tensors(groups: list[tuple[float, float]]) -> tuple[torch.Tensor, torch.Tensor]:
    means, errors = zip(*groups, strict=True)
    return torch.tensor(means, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64)


@given(GROUPS)
def test_shrink_to_mean_matches_the_formula(groups: list[tuple[float, float]]) -> None:
    means, errors = tensors(groups)
    expected = torch.tensor(literal(means.tolist(), errors.tolist()), dtype=torch.float64)
    found = shrink_to_mean(means, errors)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, equal_nan=True)


@given(GROUPS)
def test_shrink_to_mean_never_moves_past_the_center(
    groups: list[tuple[float, float]],
) -> None:
    means, errors = tensors(groups)
    found = shrink_to_mean(means, errors)
    known = means.isfinite()
    assert torch.equal(found.isfinite(), known)
    if known.any():
        centre = means[known].mean()
        before, after = means[known] - centre, found[known] - centre
        assert (after.abs() <= before.abs() + 1e-9).all()
        assert (after * before >= -1e-9).all()


def test_shrink_to_mean_keeps_exact_and_averages_noisy_means() -> None:
    means = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    assert torch.equal(shrink_to_mean(means, torch.zeros(3, dtype=torch.float64)), means)
    levelled = shrink_to_mean(means, torch.full((3,), 9.0, dtype=torch.float64))
    assert levelled.tolist() == pytest.approx([2.0, 2.0, 2.0])
    # the one that is known least moves most
    moved = shrink_to_mean(means, torch.tensor([0.1, 2.0, 0.1], dtype=torch.float64)) - means
    assert moved[1].abs() / 1.0 > moved[2].abs() / 3.0
