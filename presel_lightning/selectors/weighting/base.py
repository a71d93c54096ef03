"""The interface of a rule, what rules know of the tasks, and what may be done to any rule's shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.functional.shrinkage import shrink_to_mean
from presel_lightning.signals import Signals


class TaskFacts:
    """What is known of each task, in the order of `pool.tasks`.

    Args:
        pool: every sample.
        signals: what the rule's `needs` asks for.
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
        """Of these in the reference split, (M,) float64."""
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
        """Mean of a held-out column over each task, and its standard error; (M,) both.

        Values that are not finite are left out; a task without any is NaN.
        """
        return means_and_errors([facts[column] for facts in self.held_out.values()])

    @cached_property
    def learns(self) -> Tensor:
        """Whether a task's loss falls by more than its standard error when it is trained; (M,)."""
        drops = [facts["start_loss"] - facts["loss"] for facts in self.held_out.values()]
        mean, error = means_and_errors(drops)
        return mean > error.nan_to_num(0.0)


def means_and_errors(groups: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Mean and standard error of the finite values of each group; NaN where there are too few."""
    means, errors = [], []
    for group in groups:
        values = group[np.isfinite(group)]
        means.append(values.mean() if len(values) else np.nan)
        errors.append(values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan)
    return torch.tensor(means, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64)


class Weighting(ABC):
    """Say how a budget is divided among tasks.

    Args:
        shrink: draw what was measured of each task towards the mean of all, by its standard error.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """Signals that must lie on disk."""

    def __init__(self, shrink: bool = False) -> None:
        self.shrink = shrink

    @abstractmethod
    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Weight of each task, (M,) float64, not negative; shares are in proportion to it.

        Args:
            facts: what is known of the tasks.
            budget: samples to divide, beside the reference split.
        """

    def settled(self, mean: Tensor, error: Tensor) -> Tensor:
        """What was measured of each task, drawn towards the mean of all if that is asked for."""
        return shrink_to_mean(mean, error) if self.shrink else mean


def adjust(
    weights: Tensor,
    facts: TaskFacts,
    *,
    floor: float = 0.0,
    priors: Mapping[str, float] | None = None,
    cap_flat: bool = False,
) -> Tensor:
    """Turn weights into shares (M,) that sum to 1, with what the user knows better.

    Args:
        weights: of a rule; NaN, where nothing was measured, counts as the mean of the others.
        facts: what is known of the tasks.
        floor: no task gets less than this part of the mean weight, so that none starves.
        priors: factor of a task's weight; 1 where a task is not named.
        cap_flat: a task whose loss does not fall gets no more than its share of the pool (of the
            tasks that are not left out): its loss may be noise.

    Raises:
        UserError: a prior names no task of the pool, or is negative.
    """
    known = weights.isfinite()
    fill = weights[known].mean() if known.any() else torch.tensor(1.0, dtype=torch.float64)
    weights = torch.where(known, weights, fill)
    if weights.sum() <= 0:  # nothing is left to learn anywhere
        weights = torch.ones_like(weights)
    weights = weights.clamp(min=floor * float(weights.mean()))
    factor = factors(facts.pool.tasks, priors or {})
    shares = weights * factor
    shares = shares / shares.sum()
    if not cap_flat:
        return shares
    sizes = facts.sizes * (factor > 0)  # what is left out has no share to hand on
    return cap(shares, sizes / sizes.sum(), ~facts.learns)


def factors(tasks: tuple[str, ...], priors: Mapping[str, float]) -> Tensor:
    """The user's factor of each task, (M,)."""
    unknown = sorted(set(priors) - set(tasks))
    if unknown or any(value < 0 for value in priors.values()) or 0 == sum(
        priors.get(task, 1.0) for task in tasks
    ):  # fmt: skip
        what = f"{unknown[0]!r} is no task of the pool" if unknown else "factors must be above 0"
        raise UserError(f"selector.init_args.priors: {what}; tasks are {', '.join(tasks)}")
    return torch.tensor([priors.get(task, 1.0) for task in tasks], dtype=torch.float64)


def cap(shares: Tensor, limits: Tensor, capped: Tensor) -> Tensor:
    """Hold some shares (M,) below their limits; the others take over in proportion.

    Where the others have nothing to be in proportion to, or there are none, everyone gets its limit.

    Args:
        shares: to be held, summing to 1.
        limits: of all, summing to 1.
        capped: whose limit counts.
    """
    held = torch.where(capped, torch.minimum(shares, limits), shares)
    free = shares[~capped].sum()
    if free == 0:
        return limits
    rest = 1 - held[capped].sum()
    return torch.where(capped, held, shares / free * rest)
