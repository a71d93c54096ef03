"""Each rule against its formula, written out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from presel_lightning.selectors.weighting import (
    IRS,
    WEIGHTINGS,
    Headroom,
    MeasuredWeighting,
    TaskFacts,
    weighting_of,
)
from presel_lightning.signals import TextLoss
from tests.selectors.weighting import measured
from tests.selectors.weighting.measured import CORRECT, HELD_OUT, SIZES, START, TASKS, facts_of


@pytest.fixture
def facts(tmp_path: Path) -> TaskFacts:
    return facts_of(tmp_path)


def shares(values: list[float]) -> list[float]:
    return [value / sum(values) for value in values]


def of(name: str, facts: TaskFacts, budget: int = 9) -> list[float]:
    return shares(weighting_of(name).weights(facts, budget).tolist())


def test_task_facts_match_pool_and_held_out_losses(facts: TaskFacts) -> None:
    assert facts.pool.tasks == TASKS
    assert facts.sizes.tolist() == [40, 20, 12]
    assert facts.reference.tolist() == [4, 2, 2]
    for task in TASKS:
        assert sorted(facts.held_out[task]["loss"]) == pytest.approx(sorted(HELD_OUT[task]))
        assert sorted(facts.held_out[task]["start_loss"]) == pytest.approx(sorted(START[task]))
    mean, error = facts.mean_and_error("loss")
    for place, task in enumerate(TASKS):
        values = HELD_OUT[task]
        assert mean[place].item() == pytest.approx(sum(values) / len(values))
        expected = np.std(values, ddof=1) / math.sqrt(len(values))
        assert error[place].item() == pytest.approx(expected)
    # noisy ends above where it began
    assert facts.learns.tolist() == [True, True, False]


def test_irs_rule_is_a_softmax_of_mean_irs(facts: TaskFacts) -> None:
    means = [np.mean(measured.IRS[task]) for task in TASKS]
    for temperature in (None, 0.3):
        tau = 1 / math.sqrt(3) if temperature is None else temperature
        literal = shares([math.exp(-s / tau) for s in means])
        found = IRS(temperature=temperature).weights(facts, 9).tolist()
        assert found == pytest.approx(literal)


def test_size_rules_match_their_formulas(facts: TaskFacts) -> None:
    assert of("size", facts) == pytest.approx(shares(list(SIZES.values())))
    assert of("sqrt_size", facts) == pytest.approx(shares([n**0.5 for n in SIZES.values()]))
    assert of("uniform", facts) == pytest.approx([1 / 3] * 3)


def test_headroom_rule_is_the_mean_held_out_loss(facts: TaskFacts) -> None:
    literal = shares([sum(HELD_OUT[task]) / len(HELD_OUT[task]) for task in TASKS])
    assert of("headroom", facts) == pytest.approx(literal)


def test_headroom_error_rule_is_the_smoothed_error_rate(facts: TaskFacts) -> None:
    literal = []
    for task in TASKS:
        wrong = sum(1 for right in CORRECT[task] if not right)
        literal.append((wrong + 0.5) / (len(CORRECT[task]) + 1))
    assert of("headroom_error", facts) == pytest.approx(shares(literal))


@pytest.mark.parametrize("budget", [0, 1, 9, 40, 64])
def test_learning_curve_rule_matches_a_greedy_loop(budget: int, facts: TaskFacts) -> None:
    starts, slopes, given = [], [], [0] * 3
    for task in TASKS:
        m, start = len(START[task]), sum(START[task]) / len(START[task])
        loss = sum(HELD_OUT[task]) / len(HELD_OUT[task])
        slopes.append(min(2.0, max(0.0, math.log(start / loss) / math.log(1 + m / 2))))
        starts.append(start)
    for _ in range(budget):
        gains = []
        for i, task in enumerate(TASKS):
            n = len(START[task]) + given[i]
            after = starts[i] * (2 + n) ** -slopes[i]
            free = SIZES[task] - len(START[task]) - given[i]
            gains.append(starts[i] * (1 + n) ** -slopes[i] - after if free else -math.inf)
        given[gains.index(max(gains))] += 1
    found = weighting_of("learning_curve").weights(facts, budget)
    assert found.dtype == torch.float64 and found.tolist() == given


def test_shrink_pulls_noisy_weights_to_the_mean(tmp_path: Path) -> None:
    loose = {"easy": [0.0, 2.0, 0.1, 1.9], "hard": [0.2, 3.0], "noisy": [0.1, 2.6]}
    facts = facts_of(tmp_path, held_out=loose)
    plain = WEIGHTINGS["headroom"]().weights(facts, 9)
    drawn = Headroom(shrink=True).weights(facts, 9)
    assert drawn.std() < 0.01 * plain.std()  # the errors are larger than the differences
    assert drawn.mean().item() == pytest.approx(plain.mean().item())


def test_headroom_task_without_finite_loss_is_nan(tmp_path: Path) -> None:
    broken = {**HELD_OUT, "hard": [math.nan, math.inf]}
    facts = facts_of(tmp_path, held_out=broken)
    found = weighting_of("headroom").weights(facts, 9)
    assert found.isnan().tolist() == [False, True, False]
    chosen = weighting_of("headroom").shares(facts, 9).tolist()
    easy, noisy = (sum(HELD_OUT[task]) / len(HELD_OUT[task]) for task in ("easy", "noisy"))
    assert chosen == pytest.approx(shares([easy, (easy + noisy) / 2, noisy]))
    assert weighting_of("learning_curve").weights(facts, 9).isfinite().all()


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weighting_rules_are_never_negative(name: str, facts: TaskFacts) -> None:
    rules = [WEIGHTINGS[name]()]
    if isinstance(rules[0], MeasuredWeighting):
        rules.append(type(rules[0])(shrink=True))
    for rule in rules:
        weights = rule.weights(facts, 20)
        assert weights.shape == (3,) and weights.dtype == torch.float64
        assert (weights >= 0).all() and weights.sum() > 0


def test_visual_necessity_is_the_mean_gain_by_the_image(facts: TaskFacts) -> None:
    """Noisy answers are easier without the image: weight 0."""
    pool = facts.pool
    losses = facts.signals.paired_loss()
    rows = pool.rows(losses["uid"].to_pylist())
    gains = {"easy": 0.4, "hard": 1.2, "noisy": -0.3}
    without = np.zeros(len(pool), dtype=np.float32)
    for row, loss in zip(rows, losses["loss_with_question"].to_pylist(), strict=True):
        without[row] = loss + gains[pool.task[row]]
    text = {"loss_without_image": without[pool.reference]}
    facts.signals.of(TextLoss).write(pool, pool.reference, text, {})
    assert of("visual_necessity", facts) == pytest.approx([0.25, 0.75, 0.0], abs=1e-6)
