"""What the selectors that read gradients share: gradients of the pool and of the validation set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.functional import influence
from presel_lightning.signals import Gradients, Signals


class Read(NamedTuple):
    """Gradients of the samples that have one, and of the validation set."""

    rows: np.ndarray
    """(n,) rows of the pool."""
    gradients: influence.Gradients
    """Of these rows."""
    validation: influence.Gradients
    """Of the validation file; by default of the reference split."""
    task: np.ndarray
    """(v,) number of the task of each validation sample."""
    n_tasks: int
    """Tasks of the validation set."""

    def scores(self, pool: Pool, values: np.ndarray) -> np.ndarray:
        """Put values (n,) to their rows of the pool, (N,); NaN elsewhere."""
        found = np.full(len(pool), np.nan)
        found[self.rows] = values
        return found


def read_gradients(pool: Pool, signals: Signals, kind: type[Gradients] = Gradients) -> Read:
    """Open the gradients of a pool, memory-mapped.

    Args:
        pool: every sample.
        signals: where they are.
        kind: signal of gradients.

    Raises:
        MissingSignalError: the signal has not been computed.
    """
    signal = signals.of(kind)
    everything = np.arange(len(pool))
    places = signal.places(pool, everything)
    rows = everything[np.isfinite(signal.read(pool, everything, "length"))]
    edges, column = signal.edges(), signal.column("direction")
    lengths = signal.column("length")
    found = influence.Gradients(column, places[rows], edges, lengths)
    if signal.has_validation():
        own = signal.column("validation_length")
        known = np.flatnonzero(np.isfinite(own))
        names = signal.column("validation_task")[known]
        direction = signal.column("validation_direction")
        validation = influence.Gradients(direction, known, edges, own)
    else:
        known = rows[pool.reference[rows]]
        names = pool.task[known].astype(str)
        validation = influence.Gradients(column, places[known], edges, lengths)
    tasks, task = np.unique(names, return_inverse=True)
    return Read(rows, found, validation, task, len(tasks))
