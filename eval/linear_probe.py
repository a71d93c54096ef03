"""Which selection pays on given images: a linear probe on what each method selects.

A few labeled images answer the question before any instruction is written: choose by features, fit
a linear classifier on the chosen, measure its accuracy on held-out images, compare with a random
sample of the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from presel_lightning.data.sizes import count_of
from presel_lightning.errors import UserError
from presel_lightning.selectors import Selector, SizeBalanced
from presel_lightning.selectors.arrays import by_features, select
from presel_lightning.selectors.within import WITHIN

CONFIDENCE = 0.95

BASELINE = "Random"


@dataclass(frozen=True)
class Trial:
    """What is compared, and how often.

    Attributes:
        methods: selectors, or short names of the rules inside a task.
        budgets: rows that are selected, each a fraction of the pool or a count.
        splits: number of random splits into a pool and test rows.
        test: test rows of a split, a fraction of all or a count.
        seed: seed of the first split.
        strength: C of the logistic regression, the inverse of its L2 penalty.
    """

    methods: Sequence[str] = ("Medoids", "facility", "centrality", "random", "KCenter", "TypiClust")
    budgets: Sequence[int | float] = (0.02, 0.05, 0.15)
    splits: int = 12
    test: int | float = 0.2
    seed: int = 0
    strength: float = 0.01


class Row(NamedTuple):
    """A method at a budget."""

    method: str
    budget: int | float
    selected: int
    """Rows that were selected."""
    accuracy: float
    """Mean accuracy over the splits, in percent."""
    difference: float
    """Mean difference to random, in points."""
    half_width: float
    """Half width of the 95 % interval of the difference; NaN for one split."""


def interval(differences: np.ndarray) -> tuple[float, float]:
    r"""Mean of paired differences and the half width of its interval.

    .. math:: \bar d \pm t_{0.975,\,n-1} \, s_d / \sqrt n

    The splits share rows, so that the true interval is somewhat wider.

    >>> interval(np.array([1.0, 2.0, 3.0]))[0]
    2.0
    """
    n = len(differences)
    if n < 2:
        return float(differences.mean()), float("nan")
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return float(differences.mean()), quantile * float(differences.std(ddof=1)) / n**0.5


def linear_probe(
    features: np.ndarray,
    labels: np.ndarray,
    trial: Trial,
    *,
    probe_features: np.ndarray | None = None,
    track: Callable[[Iterable[int], int], Iterable[int]] = lambda items, _: items,
) -> tuple[list[Row], float]:
    """Compare selection methods by the accuracy of a linear probe on what they select.

    Split s shuffles all rows by seed s; the first are the test rows, the rest is the pool that is
    selected from, as one task. The random sample of split s has seed s + 1000. The classifier is a
    logistic regression on features standardized by the mean and deviation of the pool.

    Args:
        features: (N, D) what the methods see.
        labels: (N,) class of each row.
        trial: methods, budgets, splits.
        probe_features: (N, E) what the classifier sees, if it is something else.
        track: shows progress over the splits; gets them and their number.

    Returns:
        A row for each budget and method, random first; accuracy with the whole pool of the first
        split, in percent.

    Raises:
        UserError: shapes differ, a method or a budget is invalid, or scikit-learn is missing.
    """
    regression = _scikit_learn()
    seen = features if probe_features is None else probe_features
    _check(features, seen, labels, trial)
    methods = {label(name): selector_of(name) for name in trial.methods if name != BASELINE}
    n_test = count_of(trial.test, len(labels), "test")
    n_pool = len(labels) - n_test
    sizes = [count_of(budget, n_pool, "budgets") for budget in trial.budgets]
    accuracy = np.zeros((trial.splits, len(sizes), 1 + len(methods)))
    full = float("nan")
    for split in track(range(trial.splits), trial.splits):
        seed = trial.seed + split
        order = np.random.default_rng(seed).permutation(len(labels))
        test, pool = order[:n_test], order[n_test:]
        mean, deviation = seen[pool].mean(axis=0), seen[pool].std(axis=0) + 1e-6

        def score(
            rows: np.ndarray,
            test: np.ndarray = test,
            mean: np.ndarray = mean,
            deviation: np.ndarray = deviation,
        ) -> float:
            chosen = labels[rows]
            if len(set(chosen)) == 1:  # nothing to separate
                return 100 * float((labels[test] == chosen[0]).mean())
            model = regression(C=trial.strength, max_iter=300)
            model.fit((seen[rows] - mean) / deviation, chosen)
            return 100 * float(model.score((seen[test] - mean) / deviation, labels[test]))

        if split == 0:
            full = score(pool)
        for at, size in enumerate(sizes):
            shuffled = np.random.default_rng(seed + 1000).permutation(len(pool))
            accuracy[split, at, 0] = score(pool[shuffled[:size]])
            for place, selector in enumerate(methods.values(), 1):
                rows = select(features[pool], budget=_exactly(size), method=selector, seed=seed)
                accuracy[split, at, place] = score(pool[rows])
    return _rows(accuracy, [BASELINE, *methods], trial.budgets, sizes), full


def label(name: str) -> str:
    """Return what a method is called in a table."""
    return f"within: {name}" if name in WITHIN else name


def selector_of(name: str) -> Selector:
    """Build a selector by its name, or `SizeBalanced` with the rule of a short name.

    Raises:
        UserError: neither is known.
    """
    if name in WITHIN:
        return SizeBalanced(within=name)
    if name not in by_features():
        known = ", ".join([*by_features(), *WITHIN])
        raise UserError(f"methods: {name!r} is unknown; choose from {known}")
    from presel_lightning import selectors

    selector: Selector = getattr(selectors, name)()
    return selector


def _exactly(size: int) -> int | float:
    """One row as a budget: the integer 1 is everything."""
    return size if size > 1 else 1e-12


def _rows(
    accuracy: np.ndarray, names: list[str], budgets: Sequence[int | float], sizes: list[int]
) -> list[Row]:
    rows = []
    for at, (budget, size) in enumerate(zip(budgets, sizes, strict=True)):
        for place, name in enumerate(names):
            scores = accuracy[:, at, place]
            difference, half_width = interval(scores - accuracy[:, at, 0])
            rows.append(Row(name, budget, size, float(scores.mean()), difference, half_width))
    return rows


def _check(features: np.ndarray, seen: np.ndarray, labels: np.ndarray, trial: Trial) -> None:
    if not len(features) == len(seen) == len(labels):
        raise UserError(
            f"{len(features)} rows of features, {len(seen)} of probe_features and {len(labels)} "
            "labels; give one of each a row"
        )
    if len(set(labels.tolist())) < 2:
        raise UserError("labels has one class only; a probe separates two or more")
    if trial.splits < 1:
        raise UserError(f"splits is {trial.splits}; give 1 or more")


def _scikit_learn() -> Any:  # noqa: ANN401 - a class of an optional package
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise UserError(
            "probe needs scikit-learn: pip install 'presel-lightning[probe]'"
        ) from error
    return LogisticRegression
