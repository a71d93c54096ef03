"""Spectral entropy against the singular values themselves."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional.spectral import last_states, spectrum


def literal(states: torch.Tensor) -> tuple[float, float]:
    """By singular values of one sample, one after another."""
    values = torch.linalg.svdvals(states.double()).tolist()
    shares = [value / sum(values) for value in values]
    return -sum(p * math.log(p) for p in shares if p > 0), max(shares)


@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    width=st.integers(1, 9),
)
def test_spectrum_equals_that_of_the_singular_values(
    seed: int, lengths: list[int], width: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(len(lengths), max(lengths), width, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    states[~mask] = torch.nan  # padding may hold anything
    entropy, concentration = spectrum(states, mask)
    for row, length in enumerate(lengths):
        expected, largest = literal(states[row, :length])
        assert float(entropy[row]) == pytest.approx(expected, abs=1e-5)
        assert float(concentration[row]) == pytest.approx(largest, abs=1e-5)
    last = last_states(states, mask)
    assert torch.equal(last, torch.stack([states[i, n - 1] for i, n in enumerate(lengths)]))


def test_spectrum_of_rank_one_is_0_and_of_orthonormal_rows_uniform() -> None:
    one = torch.outer(torch.arange(1.0, 6.0), torch.arange(1.0, 9.0))
    rows = torch.linalg.qr(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)))[0].T
    entropy, concentration = spectrum(torch.stack([one, rows]), torch.ones(2, 5, dtype=torch.bool))
    assert entropy.tolist() == pytest.approx([0.0, math.log(5)], abs=1e-5)
    assert concentration.tolist() == pytest.approx([1.0, 0.2], abs=1e-5)


def test_spectrum_of_states_that_are_not_finite_or_all_zero_is_nan() -> None:
    states = torch.ones(3, 2, 2)
    states[0, 1, 1], states[1] = torch.inf, 0.0
    entropy, _ = spectrum(states, torch.ones(3, 2, dtype=torch.bool))
    assert entropy.isnan().tolist() == [True, True, False]
