import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from presel_lightning.functional import instruction_relevance, task_weights


def test_instruction_relevance_is_the_ratio_of_the_losses() -> None:
    with_question = torch.tensor([0.5, 3.0, 0.1])
    without = torch.tensor([2.0, 1.5, 0.1])
    irs = instruction_relevance(with_question, without)
    assert irs.dtype == torch.float64
    torch.testing.assert_close(irs, torch.tensor([0.25, 2.0, 1.0], dtype=torch.float64))


def test_instruction_relevance_zero_denominator_is_nan() -> None:
    irs = instruction_relevance(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))
    assert irs[0] == 0
    assert irs[1:].isnan().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_instruction_relevance_non_finite_loss_is_nan(bad: float) -> None:
    assert instruction_relevance(torch.tensor([bad]), torch.tensor([1.0])).isnan().all()
    assert instruction_relevance(torch.tensor([1.0]), torch.tensor([bad])).isnan().all()


def test_instruction_relevance_shape_mismatch_raises() -> None:
    with pytest.raises(ValueError, match="one shape"):
        instruction_relevance(torch.ones(2), torch.ones(3))


@given(st.lists(st.floats(0, 50), min_size=1, max_size=30), st.floats(0.01, 10))
def test_task_weights_match_scipy_softmax(relevance: list[float], temperature: float) -> None:
    expected = softmax(-np.array(relevance) / temperature)
    actual = task_weights(torch.tensor(relevance, dtype=torch.float64), temperature)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-10, atol=1e-300)


def test_task_weights_default_temperature_is_inverse_sqrt_tasks() -> None:
    relevance = torch.tensor([0.3, 0.9, 0.5, 0.7])
    torch.testing.assert_close(task_weights(relevance), task_weights(relevance, 0.5))
    assert task_weights(relevance).argmax() == 0


def test_task_weights_nan_counts_as_the_mean() -> None:
    weights = task_weights(torch.tensor([0.2, torch.nan, 0.6]))
    torch.testing.assert_close(weights, task_weights(torch.tensor([0.2, 0.4, 0.6])))


def test_task_weights_all_nan_are_uniform() -> None:
    nan = torch.full((4,), torch.nan)
    torch.testing.assert_close(task_weights(nan), torch.full((4,), 0.25, dtype=torch.float64))


def test_task_weights_zero_temperature_raises_value_error() -> None:
    with pytest.raises(ValueError, match="positive temperature"):
        task_weights(torch.ones(2), 0.0)
