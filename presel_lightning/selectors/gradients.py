"""What the selectors that read gradients share: gradients of the pool and of the validation set."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.functional import influence
from presel_lightning.selectors.base import Selector
from presel_lightning.signals import ClipSimilarity, Gradients, PairGradients, Signals

Loss = Literal["answer", "contrastive"]
KINDS: dict[str, type[Gradients]] = {"answer": Gradients, "contrastive": PairGradients}
"""Signal of the gradients of each loss."""


class GradientSelector(Selector):
    """Base class of selectors that read the gradients of one of several losses.

    Args:
        loss: `answer` tokens under the reference model, or the `contrastive` loss of an image-text pair
            under a two-tower probe; None for `contrastive` where `two_tower` is set, else `answer`.

    Raises:
        UserError: the loss is unknown.
    """

    def __init__(self, loss: Loss | None = None) -> None:
        if loss not in (None, *get_args(Loss)):
            raise UserError(
                f"selector.init_args.loss {loss!r} is unknown; choose from {', '.join(get_args(Loss))}"
            )
        self.loss = loss
        self.read_signals()

    @property
    def kind(self) -> type[Gradients]:
        """Signal of the gradients."""
        return KINDS[self.loss or "answer"]

    def on_pairs(self) -> None:
        """Read gradients of the contrastive loss, unless another is named."""
        self.loss = self.loss or "contrastive"
        self.read_signals()

    def fingerprint(self) -> object:
        """Return the loss that is read, beside the parts."""
        return [super().fingerprint(), self.kind.name]

    def read_signals(self) -> None:
        """Set `needs` to the signals that the options ask for."""
        # the gradients of pairs are made of the vectors of `clip_similarity`
        vectors = (ClipSimilarity.name,) if self.kind is PairGradients else ()
        self.needs = (*vectors, self.kind.name)  # type: ignore[misc]


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

    def normalized(self) -> Read:
        """The same gradients, each divided by its length."""
        gradients, validation = (
            each._replace(lengths=None) for each in (self.gradients, self.validation)
        )
        return self._replace(gradients=gradients, validation=validation)

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
