"""Facility location against the greedy algorithm written out."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from presel_lightning.functional import facility_location


@given(st.integers(1, 14), st.integers(0, 14), st.integers(0, 3), st.integers(0, 9))
def test_facility_location_without_sampling_is_greedy(n: int, b: int, t: int, seed: int) -> None:
    rows = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)).double()
    taken = torch.arange(n) < t
    unit = normalize(rows, dim=1)

    def value(chosen: list[int]) -> float:
        if not chosen:
            return 0.0
        return float((unit @ unit[chosen].T).amax(dim=1).clamp(min=0).mean())

    chosen = [row for row in range(n) if taken[row]]
    found = facility_location(rows, b, taken, seed=0, epsilon=0)
    assert len(found.rows) == min(b, n - len(chosen))
    for pick in found.rows.tolist():
        gains = {r: value([*chosen, r]) - value(chosen) for r in range(n) if r not in chosen}
        assert gains[pick] >= max(gains.values()) - 1e-6
        assert abs(found.gain[pick] - gains[pick]) < 1e-6
        chosen.append(pick)
    for row in set(range(n)) - set(chosen):
        assert abs(float(found.gain[row]) - (value([*chosen, row]) - value(chosen))) < 1e-6
    assert not found.gain[taken].any()


def test_facility_location_by_sampling_is_near_greedy() -> None:
    rows = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    greedy, sampled = (facility_location(rows, 20, seed=0, epsilon=e) for e in (0.0, 0.1))
    assert len(set(sampled.rows.tolist())) == 20
    assert sampled.gain[sampled.rows].sum() >= 0.95 * greedy.gain[greedy.rows].sum()
    again = facility_location(rows, 20, seed=0, epsilon=0.1)
    assert torch.equal(again.rows, sampled.rows)
