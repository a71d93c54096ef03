"""The interface of a weighting, its inputs, and the adjustments of its shares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.functional.shrinkage import shrink_to_mean
from presel_lightning.run.ranges import Fraction, NonNegative
from presel_lightning.selectors.checks import numbers
from presel_lightning.selectors.part import Part
from presel_lightning.signals import HeldOutLoss, Signals


class TaskFacts:
    """Inputs of a weighting for each task, in the order of `pool.tasks`.

    Args:
        pool: every sample.
        signals: the signals that the rule's `needs` names.
    """

    def __init__(self, pool: Pool, signals: Signals) -> None:
        self.pool, self.signals = pool, signals

    @cached_property
    def sizes(self) -> Tensor:
        """Images of each task, (M,) float64."""
        counts = [len(self.pool.task_rows(task)) for task in self.pool.tasks]
        return torch.tensor(counts, dtype=torch.float64)

    @cached_property
    def reference(self) -> Tensor:
        """Reference samples of each task, (M,) float64."""
        counts = [self.pool.reference[self.pool.task_rows(t)].sum() for t in self.pool.tasks]
        return torch.tensor(np.array(counts), dtype=torch.float64)

    @cached_property
    def held_out(self) -> dict[str, dict[str, np.ndarray]]:
        """Columns of the held-out losses by task: start_loss, loss, correct."""
        table = self.signals.held_out_loss()
        task = np.asarray(table["task"].to_pylist())
        columns = {
            name: table[name].to_numpy(zero_copy_only=False).astype(np.float64)
            for name in ("start_loss", "loss", "correct")
        }
        return {
            name: {column: values[task == name] for column, values in columns.items()}
            for name in self.pool.tasks
        }

    def mean_and_error(self, column: str) -> tuple[Tensor, Tensor]:
        """Compute the mean of a held-out column over each task, and its standard error; (M,) both.

        Values that are not finite are ignored; a task without a finite value is NaN.
        """
        return means_and_errors([facts[column] for facts in self.held_out.values()])

    @cached_property
    def learns(self) -> Tensor:
        """Whether training lowers a task's held-out loss by more than its standard error; (M,)."""
        drops = [facts["start_loss"] - facts["loss"] for facts in self.held_out.values()]
        mean, error = means_and_errors(drops)
        return mean > error.nan_to_num(0.0)


def means_and_errors(groups: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Compute mean and standard error of the finite values of each group; NaN if too few."""
    means, errors = [], []
    for group in groups:
        values = group[np.isfinite(group)]
        means.append(values.mean() if len(values) else np.nan)
        errors.append(values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan)
    return torch.tensor(means, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64)


class Weighting(Part):
    """Base class of a rule that allocates a budget to tasks.

    Args:
        floor: minimum weight of a task as a fraction of the mean weight, such as 0.15.
        priors: factor of a task's weight, {task: factor}; 1 where a task is not named.
        cap_flat: a task whose held-out loss training does not lower gets no more than its share of
            the pool. It needs the held-out losses.
    """

    def __init__(
        self,
        floor: Fraction = 0.0,
        priors: dict[str, NonNegative] | None = None,
        cap_flat: bool = False,
    ) -> None:
        self.floor, self.priors, self.cap_flat = floor, priors, cap_flat
        if cap_flat:
            self.needs = tuple(dict.fromkeys([*self.needs, HeldOutLoss.name]))

    @abstractmethod
    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Compute the weight of each task, (M,) float64, not negative; shares are proportional.

        Args:
            facts: inputs of the tasks.
            budget: samples to allocate in addition to the reference split.
        """

    def shares(self, facts: TaskFacts, budget: int) -> Tensor:
        """Compute the share of the budget of each task, (M,) float64, sum 1; see `adjust`.

        Raises:
            UserError: the weights are not one real number for each task, or one is negative or
                infinite.
        """
        return adjust(
            valid_weights(self.weights(facts, budget), facts.pool, type(self).__name__),
            facts,
            floor=self.floor,
            priors=self.priors,
            cap_flat=self.cap_flat,
        )

    def warnings(self, facts: TaskFacts, shares: Tensor) -> list[str]:
        """Return warnings about shares (M,), for the console and the report."""
        return []


def valid_weights(found: Tensor, pool: Pool, name: str) -> Tensor:
    """Convert the weights of a rule, (M,) float64; NaN is a task where nothing was measured.

    Raises:
        UserError: they are not one real number for each task, or one is negative or infinite.
    """
    who = f"weighting {name}"
    weights = numbers(found, len(pool.tasks), who, "weights", "tasks")
    wrong = (weights < 0) | np.isinf(weights)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"{who} returned a weight of {weights[first]} for task {pool.tasks[first]}; return finite "
            "weights of 0 or more"
        )
    return torch.from_numpy(weights)


class MeasuredWeighting(Weighting):
    """Base class of a weighting by a measurement on the reference samples of each task.

    Args:
        shrink: shrink the measurement of each task toward the mean of all, by its standard error.
        floor: minimum weight of a task as a fraction of the mean weight, such as 0.15.
        priors: factor of a task's weight, {task: factor}; 1 where a task is not named.
        cap_flat: a task whose held-out loss training does not lower gets no more than its share of
            the pool. It needs the held-out losses.
    """

    def __init__(
        self,
        shrink: bool = False,
        floor: Fraction = 0.0,
        priors: dict[str, NonNegative] | None = None,
        cap_flat: bool = False,
    ) -> None:
        super().__init__(floor, priors, cap_flat)
        self.shrink = shrink

    def settled(self, mean: Tensor, error: Tensor) -> Tensor:
        """Return the measurement of each task, shrunk toward the mean of all if `shrink` is set."""
        return shrink_to_mean(mean, error) if self.shrink else mean


def adjust(
    weights: Tensor,
    facts: TaskFacts,
    *,
    floor: Fraction = 0.0,
    priors: Mapping[str, float] | None = None,
    cap_flat: bool = False,
) -> Tensor:
    """Convert weights to shares (M,) that sum to 1, with floor, priors and cap applied.

    Args:
        weights: (M,) weights of a rule; NaN, where nothing was measured, counts as the mean of the
            others.
        facts: inputs of the tasks.
        floor: minimum weight of a task as a fraction of the mean weight.
        priors: factor of a task's weight; 1 where a task is not named.
        cap_flat: a task whose loss does not fall gets no more than its share of the pool (of the
            tasks with a positive factor): its loss may be noise.

    Raises:
        UserError: a prior names no task of the pool, or is negative.
    """
    known = weights.isfinite()
    fill = weights[known].mean() if known.any() else torch.tensor(1.0, dtype=torch.float64)
    weights = torch.where(known, weights, fill)
    if weights.sum() <= 0:  # no task has anything left to learn
        weights = torch.ones_like(weights)
    weights = weights.clamp(min=floor * float(weights.mean()))
    factor = factors(facts.pool.tasks, priors or {})
    shares = weights * factor
    shares = shares / shares.sum()
    if not cap_flat:
        return shares
    sizes = facts.sizes * (factor > 0)  # an excluded task has no share to re-allocate
    return cap(shares, sizes / sizes.sum(), ~facts.learns)


def factors(tasks: tuple[str, ...], priors: Mapping[str, float]) -> Tensor:
    """Return the user's factor of each task, (M,)."""
    unknown = sorted(set(priors) - set(tasks))
    if unknown or any(value < 0 for value in priors.values()) or 0 == sum(
        priors.get(task, 1.0) for task in tasks
    ):  # fmt: skip
        what = f"{unknown[0]!r} is not a task of the pool" if unknown else "factors must be above 0"
        raise UserError(
            f"selector.init_args.weighting.init_args.priors: {what}; tasks are {', '.join(tasks)}"
        )
    return torch.tensor([priors.get(task, 1.0) for task in tasks], dtype=torch.float64)


def cap(shares: Tensor, limits: Tensor, capped: Tensor) -> Tensor:
    """Clip some shares at their limits, and re-allocate the remainder in proportion.

    Where the other shares are 0, or there are none, every task gets its limit.

    Args:
        shares: (M,) that sum to 1.
        limits: (M,) that sum to 1.
        capped: (M,) bool, tasks whose limit applies.

    Returns:
        (M,) shares that sum to 1.
    """
    held = torch.where(capped, torch.minimum(shares, limits), shares)
    free = shares[~capped].sum()
    if free == 0:
        return limits
    rest = 1 - held[capped].sum()
    return torch.where(capped, held, shares / free * rest)
