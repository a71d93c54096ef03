from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional import weighted_total
from presel_lightning.functional.token_loss import IGNORE, sample_losses, teacher_forced_match

samples = st.lists(
    st.tuples(st.floats(0, 50), st.integers(1, 400), st.floats(0, 8)), min_size=1, max_size=12
)


def tensors(rows: list[tuple[float, int, float]]) -> tuple[torch.Tensor, ...]:
    sums, counts, weights = zip(*rows, strict=True)
    return torch.tensor(sums), torch.tensor(counts), torch.tensor(weights)


@given(rows=samples, cut=st.integers(0, 12), factor=st.floats(0.01, 100))
def test_weighted_total_of_parts_adds_up_to_the_literal_sums(
    rows: list[tuple[float, int, float]], cut: int, factor: float
) -> None:
    loss = tokens = 0.0
    for each_loss, count, weight in rows:
        loss += weight * each_loss
        tokens += weight * count
    parts = [weighted_total(*tensors(part)) for part in (rows[:cut], rows[cut:]) if part]
    assert sum(float(part[0]) for part in parts) == pytest.approx(loss, rel=1e-5)
    assert sum(float(part[1]) for part in parts) == pytest.approx(tokens, rel=1e-5)
    if tokens > 1e-3:
        sums, counts, weights = tensors(rows)
        scaled, scaled_tokens = weighted_total(sums, counts, factor * weights)
        assert float(scaled / scaled_tokens) == pytest.approx(loss / tokens, rel=1e-4)


def test_sample_losses_under_a_half_default_dtype_are_summed_in_fp32() -> None:
    """As a Trainer's `precision: 16-true` sets it."""
    labels = torch.tensor([[IGNORE, 0, 1], [IGNORE, IGNORE, 1]])
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], dtype=torch.float16)
    expected = sample_losses(logits.float(), labels)
    torch.set_default_dtype(torch.float16)
    try:
        found, match = sample_losses(logits, labels), teacher_forced_match(logits, labels)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found[0].dtype == torch.float32 and match.tolist() == [1, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
