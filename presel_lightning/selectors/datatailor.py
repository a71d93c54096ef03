"""DataTailor (2024): informative, unique and representative samples of every task."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.functional import datatailor as rules
from presel_lightning.functional.allocation import allocate
from presel_lightning.functional.ward import ward_labels
from presel_lightning.records import Selection
from presel_lightning.run.ranges import ProperFraction
from presel_lightning.selectors.base import Selector
from presel_lightning.selectors.by_score import scored_first, select_in_order, with_facts
from presel_lightning.signals import (
    ColumnSignal,
    HiddenStates,
    PairedLoss,
    ReferenceHiddenStates,
    Signals,
)

Mode = Literal["exact", "published"]
ProbeAt = Literal["pretrained", "reference"]


class Scores(NamedTuple):
    """Columns of the samples of a task, or of the pool; NaN where a sample has none."""

    informativeness: np.ndarray
    uniqueness: np.ndarray
    representativeness: np.ndarray
    score: np.ndarray
    cluster: np.ndarray
    """-1 where a sample has none."""


class DataTailor(Selector):
    r"""Select by three ranks inside each task: informativeness, uniqueness, representativeness.

    Of the hidden states Z of a conversation, output of the last decoder layer, with normalized
    singular values p and last row e:

    .. math:: s = -\sum_j p_j \ln p_j, \quad \tau = \max_j p_j

    Ward's clusters of the e of a task, cut at 0.1 of the last height, with centroids mu:

    .. math:: \mathrm{uni}_i = \frac{\sum_{j \in c} d_{ij} s_j}
        {\frac{1}{n_c} \sum_{a,b \in c} d_{ab}}, \quad
        \mathrm{rep}_i = \frac{s_i}{B - 1} \sum_{c' \ne c(i)} e^{\cos(\mu_{c(i)}, \mu_{c'})}

    and, with ranks r from 0 to 1 - 1/N in the task and R turns,
    :math:`(R_i r_s + r_{uni} + r_{rep}) / (R_i + 2)`. A task's budget is in proportion to
    :math:`N_t \bar\tau_t^2`.

    Needs the instructions of the whole pool. Ties go by uid.

    Differences to the published scripts (`mode: exact`), and why:

    - one frozen model in evaluation mode reads all samples; the scripts read each while it trains;
    - budgets by largest remainder under the size of a task; theirs round down, and fail above it;
    - a member of a cluster of equal rows has uniqueness 0, and the only member of a cluster one by its
      nearest centroid; theirs divide 0 by 0 there, and rank the result first;
    - a task of one cluster has the factor 1; theirs divide by 0;
    - turns are the answers of the conversation; theirs halve the number of messages.

    Args:
        mode: `published` rounds budgets down, and ranks undefined uniqueness first.
        domain_quota: `tau2` (the paper), `proportional` to the samples of a task, or `uniform`.
        decouple_informativeness: leave s out of uniqueness and representativeness, which else count
            it three times.
        probe_at: model that reads the samples: `pretrained`, or the `reference` model.
        cut: fraction of the last height at which the tree is cut.

    Raises:
        UserError: an option is unknown.

    Source: Yu et al., "Mastering Collaborative Multi-modal Data Selection: A Focus on
    Informativeness, Uniqueness, and Representativeness", arXiv 2412.06293.
    """

    needs: ClassVar[tuple[str, ...]] = (HiddenStates.name,)

    def __init__(
        self,
        mode: Mode = "exact",
        domain_quota: rules.Quota = "tau2",
        decouple_informativeness: bool = False,
        probe_at: ProbeAt = "pretrained",
        cut: ProperFraction = 0.1,
    ) -> None:
        self.mode, self.domain_quota, self.probe_at = mode, domain_quota, probe_at
        self.decouple_informativeness, self.cut = decouple_informativeness, cut
        kinds = {"mode": Mode, "domain_quota": rules.Quota, "probe_at": ProbeAt}
        for key, kind in kinds.items():
            if (given := getattr(self, key)) not in (known := get_args(kind)):
                raise UserError(
                    f"selector.init_args.{key} {given!r} is unknown; choose from {', '.join(known)}"
                )
        if probe_at == "reference":
            # the reference model comes with the paired losses
            self.needs = (PairedLoss.name, ReferenceHiddenStates.name)  # type: ignore[misc]

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Score every task, allocate the budget, and select the highest scores of each task."""
        kind = HiddenStates if self.probe_at == "pretrained" else ReferenceHiddenStates
        signal: ColumnSignal = signals.of(kind)
        tau = signal.read(pool, np.arange(len(pool)), "concentration").astype(np.float64)
        parts = [self.of_task(pool, signal, pool.task_rows(task), seed) for task in pool.tasks]
        rows = np.concatenate([pool.task_rows(task) for task in pool.tasks])
        columns = {
            name: in_place(rows, [getattr(part, name) for part in parts]) for name in Scores._fields
        }
        found = Scores(**columns)
        counts, shares = self.quotas(pool, found.score, tau, budget)
        order = scored_first(pool, found.score)
        own = [
            order[pool.task[order] == task][:n] for task, n in zip(pool.tasks, counts, strict=True)
        ]
        selection = select_in_order(
            pool,
            np.concatenate(own),
            order,
            found.score,
            "informative, unique and representative in its task",
            cluster=found.cluster.astype(np.int64),
        )
        selection = replace(selection, task_weights=shares)
        known = found._asdict()
        return with_facts(
            selection, pool, signals, {name: known[name] for name in Scores._fields[:4]}
        )

    def quotas(
        self, pool: Pool, score: np.ndarray, tau: np.ndarray, budget: int
    ) -> tuple[list[int], dict[str, float]]:
        """Allocate the budget to the tasks: samples of each, and shares."""
        rows = [pool.task_rows(task) for task in pool.tasks]
        sizes = np.array([np.isfinite(score[own]).sum() for own in rows], dtype=np.float64)
        means = np.array([mean_of(tau[own]) for own in rows])
        weights = rules.quota_weights(sizes, means, self.domain_quota)
        total = weights.sum()
        shares = weights / total if total > 0 else np.full(len(weights), 1 / len(weights))
        free = np.array([(~pool.reference[own]).sum() for own in rows])
        if self.mode == "published":
            counts = [min(int(budget * s), int(n)) for s, n in zip(shares, free, strict=True)]
        else:
            scored = np.array([(np.isfinite(score[o]) & ~pool.reference[o]).sum() for o in rows])
            first = allocate(torch.from_numpy(shares), torch.from_numpy(scored), budget)
            rest = torch.from_numpy(free - scored)
            counts = (first + allocate(rest, rest, budget - int(first.sum()))).tolist()
        return counts, dict(zip(pool.tasks, shares.tolist(), strict=True))

    def of_task(self, pool: Pool, signal: ColumnSignal, rows: np.ndarray, seed: int) -> Scores:
        """Score the samples (n,) of a task that have hidden states."""
        entropy = signal.read(pool, rows, "entropy").astype(np.float64)
        known = np.isfinite(entropy)
        columns = unknown(len(rows))
        if not known.any():
            return columns
        found = self.scores(
            signal.read(pool, rows[known], "last"), entropy[known], pool.n_turns[rows[known]], seed
        )
        for column, values in zip(columns, found, strict=True):
            column[known] = values
        return columns

    def scores(
        self, last: np.ndarray, information: np.ndarray, turns: np.ndarray, seed: int
    ) -> Scores:
        """Compute the columns of the samples of a task.

        Args:
            last: (n, D) states of the last token.
            information: (n,) spectral entropies.
            turns: (n,) answers of each conversation.
            seed: of the micro-clusters of a large task.
        """
        labels = ward_labels(last, self.cut, seed=seed)
        weight = np.ones(len(last)) if self.decouple_informativeness else information
        centroids = rules.centroids_of(last, labels)
        unique = rules.uniqueness(last, weight, labels)
        if self.mode == "exact":
            unique = rules.with_defined_uniqueness(unique, centroids, weight, labels)
        represents = rules.representativeness(weight, centroids, labels)
        by_rank = map(rules.ranks, (information, unique, represents))
        score = rules.fused(turns, *by_rank)
        return Scores(information, unique, represents, score.astype(np.float64), labels)


def unknown(n: int) -> Scores:
    """Columns of n samples that have no score."""
    a, b, c, d = (np.full(n, np.nan) for _ in range(4))
    return Scores(a, b, c, d, np.full(n, -1.0))


def in_place(rows: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """Put the values of all tasks, one after another, to their rows of the pool."""
    found = np.empty(len(rows))
    found[rows] = np.concatenate(parts)
    return found


def mean_of(values: np.ndarray) -> float:
    """Average the finite values; 0 where there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0
