"""What may be done to any rule's shares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from presel_lightning.errors import UserError
from presel_lightning.selectors.weighting import TaskFacts, adjust
from presel_lightning.selectors.weighting.base import cap
from tests.selectors.weighting.measured import SIZES, TASKS, facts_of

WEIGHTS = st.lists(
    st.floats(0, 100) | st.just(float("nan")), min_size=len(TASKS), max_size=len(TASKS)
)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> TaskFacts:
    return facts_of(tmp_path_factory.mktemp("facts"))


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(WEIGHTS, st.floats(0, 1), st.booleans())
def test_adjust_shares_sum_to_one_and_respect_the_floor(
    facts: TaskFacts, weights: list[float], floor: float, cap_flat: bool
) -> None:
    shares = adjust(tensor(*weights), facts, floor=floor, cap_flat=cap_flat)
    assert shares.isfinite().all() and (shares >= 0).all()
    assert shares.sum().item() == pytest.approx(1)
    if not cap_flat:
        # raising some weights to floor x mean adds at most floor to the sum of shares
        assert shares.min() >= floor / len(TASKS) / (1 + floor) - 1e-12


def test_adjust_without_options_normalizes_the_weights(facts: TaskFacts) -> None:
    assert adjust(tensor(1, 2, 5), facts).tolist() == pytest.approx([0.125, 0.25, 0.625])
    assert adjust(tensor(0, 0, 0), facts).tolist() == pytest.approx([1 / 3] * 3)
    assert adjust(tensor(*[float("nan")] * 3), facts).tolist() == pytest.approx([1 / 3] * 3)
    assert adjust(tensor(1, float("nan"), 3), facts).tolist() == pytest.approx([1 / 6, 1 / 3, 0.5])


def test_adjust_floor_raises_a_zero_weight(facts: TaskFacts) -> None:
    shares = adjust(tensor(0, 3, 6), facts, floor=0.2)  # the mean is 3
    assert shares.tolist() == pytest.approx([0.6 / 9.6, 3 / 9.6, 6 / 9.6])


def test_adjust_priors_multiply_the_weights(facts: TaskFacts) -> None:
    shares = adjust(tensor(1, 1, 2), facts, priors={"hard": 3, "noisy": 0})
    assert shares.tolist() == pytest.approx([0.25, 0.75, 0])


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ({"colour": 2.0}, "'colour' is not a task of the pool; tasks are easy, hard, noisy"),
        ({"hard": -1.0}, "factors must be above 0"),
        (dict.fromkeys(TASKS, 0.0), "factors must be above 0"),
    ],
)
def test_adjust_invalid_priors_raise_user_error(
    facts: TaskFacts, priors: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        adjust(tensor(1, 1, 1), facts, priors=priors)


@given(WEIGHTS)
def test_adjust_cap_flat_limits_a_flat_task_to_its_size(
    facts: TaskFacts, weights: list[float]
) -> None:
    plain, capped = (adjust(tensor(*weights), facts, cap_flat=flag) for flag in (False, True))
    limit = SIZES["noisy"] / sum(SIZES.values())  # the only one whose loss does not fall
    learns = plain[:2].sum()
    if learns == 0:  # no learning task could take the remainder
        assert capped.tolist() == pytest.approx([s / sum(SIZES.values()) for s in SIZES.values()])
        return
    assert capped[2].item() == pytest.approx(min(plain[2].item(), limit))
    torch.testing.assert_close(capped[:2] / capped[:2].sum(), plain[:2] / learns)


def test_cap_all_flat_tasks_get_shares_by_size() -> None:
    sizes, everyone = tensor(0.34, 0.33, 0.33), torch.tensor([True] * 3)
    assert cap(tensor(0.8, 0.1, 0.1), sizes, everyone).tolist() == pytest.approx(sizes.tolist())
    flat = torch.tensor([True, True, False])
    assert cap(tensor(0.8, 0.2, 0.0), sizes, flat).tolist() == pytest.approx(sizes.tolist())


def test_adjust_cap_flat_keeps_zero_prior_tasks_at_zero(facts: TaskFacts) -> None:
    left_out = {"easy": 0.0, "hard": 0.0}
    shares = adjust(tensor(1, 1, 1), facts, priors=left_out, cap_flat=True)
    assert shares.tolist() == pytest.approx([0, 0, 1])


PARTS = st.lists(
    st.tuples(st.just(0.0) | st.floats(0.01, 1), st.floats(0.01, 1), st.booleans()),
    min_size=1,
    max_size=8,
).filter(lambda parts: any(share for share, _, _ in parts))


@given(PARTS)
def test_cap_no_capped_share_exceeds_its_limit(parts: list[tuple[float, float, bool]]) -> None:
    shares, limits, capped = (torch.tensor(column) for column in zip(*parts, strict=True))
    shares, limits = (part.double() / part.double().sum() for part in (shares, limits))
    found = cap(shares, limits, capped)
    assert found.sum().item() == pytest.approx(1) and (found >= 0).all()
    assert (found[capped] <= limits[capped] + 1e-9).all()
    if shares[~capped].sum() > 0:
        assert torch.equal(found[capped], torch.minimum(shares, limits)[capped])
        others = found[~capped] / found[~capped].sum()
        torch.testing.assert_close(others, shares[~capped] / shares[~capped].sum())
