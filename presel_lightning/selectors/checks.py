"""Checks of the arrays that a selector returns: a class of a user may return anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.records import Selection


def numbers(
    found: Any,  # noqa: ANN401 - of a user's class
    length: int,
    who: str,
    what: str,
    of: str = "samples",
) -> np.ndarray:
    """Convert what a user's class returned to real numbers.

    Args:
        found: a tensor, an array or a list of integers or floats.
        length: expected number of them.
        who: kind and name of the class, for the error message.
        what: name of the numbers, in the plural.
        of: what has one each, in the plural.

    Returns:
        (length,) float64.

    Raises:
        UserError: it is another type, of another dtype, such as bool or complex, or of another shape.
    """
    try:
        values = torch.as_tensor(found).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        kind = f"an array of {found.dtype}" if isinstance(found, np.ndarray) else type(found)
        name = kind.__name__ if isinstance(kind, type) else kind
        raise UserError(f"{who} returned {name} as {what}; return a tensor of numbers") from None
    if values.dtype == torch.bool or values.is_complex():
        raise UserError(f"{who} returned {what} of dtype {dtype_of(values)}; return real numbers")
    if tuple(values.shape) != (length,):
        raise UserError(
            f"{who} returned {what} of shape {tuple(values.shape)} for {length} {of}; return one for "
            f"each, ({length},)"
        )
    real: np.ndarray = values.double().numpy()
    return real


def dtype_of(values: torch.Tensor) -> str:
    """Return the name of a dtype: `bool`, `complex64`."""
    return str(values.dtype).removeprefix("torch.")


def finite_scores(found: Any, pool: Pool, who: str) -> np.ndarray:  # noqa: ANN401 - of a user's
    """Convert the scores of the whole pool, (N,) float64; see `numbers` and `require_finite`."""
    score = numbers(found, len(pool), who, "scores")
    require_finite(score, pool, np.arange(len(pool)), who)
    return score


def require_finite(score: np.ndarray, pool: Pool, rows: np.ndarray, who: str) -> None:
    """Check that every sample that may be selected has a finite score.

    Args:
        score: (n,) score of each row.
        pool: every sample.
        rows: (n,) row numbers.
        who: kind and name of the class that computed them, for the error message.

    Raises:
        UserError: a score outside the reference split is NaN or infinite.
    """
    wrong = ~np.isfinite(score) & ~pool.reference[rows]
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"{who} returned a score of {score[first]} for {pool.uid[rows[first]]} (task "
            f"{pool.task[rows[first]]}; {wrong.sum()} of {len(rows)} are NaN or infinite); return "
            "finite scores"
        )


def check_weights(selection: Selection, name: str) -> None:
    """Check that the training weights of a selection are valid.

    Args:
        selection: result of a selector.
        name: name of the selector, for the error message.

    Raises:
        UserError: there is not one real weight for each sample, or one is negative or not finite (as
            a 32-bit number), or all are 0.
    """
    n = len(selection.uids)
    weights = numbers(selection.weights, n, f"selector {name}", "weights", "selected samples")
    if (wrong := ~((weights >= 0) & (weights <= np.finfo(np.float32).max))).any():
        fault = f"a weight of {weights[wrong][0]} for {selection.uids[wrong][0]}"
        fault += f" ({wrong.sum()} such of {n})"
    elif n and not weights.astype(np.float32).any():
        fault = f"a weight of 0 for all {n} selected samples"
    else:
        return
    raise UserError(
        f"selector {name} returned {fault}; return one for each selected sample, finite and 0 or "
        "more, not all 0"
    )


def check_selection(selection: object, pool: Pool, budget: int, name: str) -> None:
    """Check that a selection says something of every sample, and selects no more than it may.

    Args:
        selection: result of a selector.
        pool: every sample.
        budget: samples that may be added to the reference split.
        name: name of the selector, for the error message.

    Raises:
        UserError: it is something else, selects samples twice, of the reference split or above the
            budget, or a column has another length, type or an infinite score.
    """
    who = f"selector {name}"
    if not isinstance(selection, Selection):
        kind = type(selection).__name__
        raise UserError(f"{who} returned a {kind}; return a `presel_lightning.records.Selection`")
    try:
        rows = pool.rows(selection.uids)
    except UserError as error:
        raise UserError(f"{who}: {error}") from error
    n_reference = int(pool.reference[rows].sum())
    if len(set(rows)) < len(rows) or n_reference or len(rows) > budget:
        raise UserError(
            f"{who} returned {len(rows)} samples for a budget of {budget}, {len(set(rows))} of them "
            f"distinct, {n_reference} of them in the reference split; return at most {budget} "
            "distinct ones outside it"
        )
    check_columns(selection, pool, who)
    check_weights(selection, name)


def check_columns(selection: Selection, pool: Pool, who: str) -> None:
    """Check what a selection says of every sample, and of every task.

    A score may be NaN, where the method has none.

    Raises:
        UserError: a column has another length or type, a score is infinite, or a task is missing.
    """
    score = numbers(selection.score, len(pool), who, "scores")
    if (wrong := np.isinf(score)).any():
        raise UserError(
            f"{who} returned a score of {score[wrong][0]} for {pool.uid[wrong][0]} ({wrong.sum()} such "
            f"of {len(pool)}); return finite scores, or NaN for a sample that has none"
        )
    for what in ("cluster", "rank"):
        found = numbers(getattr(selection, what), len(pool), who, f"{what}s")
        if not np.array_equal(found, np.round(found)):
            raise UserError(f"{who} returned a {what} that is no whole number; return integers")
    if (shape := np.shape(selection.reason)) != (len(pool),):
        raise UserError(
            f"{who} returned reasons of shape {shape} for {len(pool)} samples; return one for each"
        )
    missing = [task for task in pool.tasks if task not in as_mapping(selection.budgets)]
    if missing:
        raise UserError(
            f"{who} returned no budget of task {missing[0]!r}; `budgets` names every task"
        )


def as_mapping(found: object) -> Mapping[Any, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return found if isinstance(found, Mapping) else {}
