"""Relative performance to full-data tuning, and the table that `benchmark.json` holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeGuard

Scores = Mapping[str, float | None]

ARMS = ("final", "full", "random", "untrained")
"""Order of the arms wherever they are shown."""


def relative_performance(scores: Scores, full: Scores) -> float | None:
    r"""How much of full-data tuning's quality an arm keeps, in percent.

    .. math::
        \text{Rel} = \frac{100}{|B|} \sum_{b \in B} \frac{s_b}{f_b}

    B holds the benchmarks where both numbers exist, are finite, and the full score is above 0. A
    benchmark of the arm that full data was not measured on is skipped, and so is one that the arm
    lacks; None where nothing is left. Compare arms only over the same benchmarks.

    Args:
        scores: {benchmark: score} of the arm; any scale, higher is better.
        full: the same of full-data tuning.

    Source: column Rel. of PreSel's tables.
    """
    ratios = [
        score / best
        for name, score in scores.items()
        if _finite(score) and _finite(best := full.get(name)) and best > 0
    ]
    return 100.0 * math.fsum(ratios) / len(ratios) if ratios else None


def benchmark_table(
    scores: Mapping[str, Scores], full_scores: Scores | None = None
) -> dict[str, dict[str, float | None]]:
    """What `benchmark.json` holds: every arm's scores and its relative performance.

    Args:
        scores: {arm: {benchmark: score}}, arms among `ARMS` (others follow in their order).
        full_scores: scores of full-data tuning from elsewhere; None takes the arm `full`, if any.

    Returns:
        {arm: {benchmark: score, ..., "relative": percent}}; None (JSON null), never NaN.
    """
    full = scores.get("full", {}) if full_scores is None else full_scores
    order = [arm for arm in ARMS if arm in scores] + [arm for arm in scores if arm not in ARMS]
    return {
        arm: {
            **{name: score if _finite(score) else None for name, score in scores[arm].items()},
            "relative": relative_performance(scores[arm], full),
        }
        for arm in order
    }


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
