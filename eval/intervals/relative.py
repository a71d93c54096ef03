"""Relative performance to full-data tuning, and the table of `benchmark.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeGuard

Scores = Mapping[str, float | None]

ARMS = ("final", "full", "random", "untrained")
"""Order of the arms in all outputs."""


def relative_performance(scores: Scores, full: Scores) -> float | None:
    r"""Compute the relative performance of an arm to full-data tuning, in percent.

    .. math::
        \text{Rel} = \frac{100}{|B|} \sum_{b \in B} \frac{s_b}{f_b}

    B is the set of benchmarks where both scores exist and are finite, and the full score is above
    0; other benchmarks are skipped. Compare arms only over the same benchmarks.

    Args:
        scores: {benchmark: score} of the arm; any scale, higher is better.
        full: {benchmark: score} of full-data tuning.

    Returns:
        The relative performance; None where B is empty.

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
    """Build the contents of `benchmark.json`: every arm's scores and its relative performance.

    Args:
        scores: {arm: {benchmark: score}}, arms among `ARMS` (others follow in their order).
        full_scores: external scores of full-data tuning; None uses the arm `full`, if any.

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
