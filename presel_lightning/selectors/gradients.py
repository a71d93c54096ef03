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


def read_gradients(
    pool: Pool, signals: Signals, kind: type[Gradients] = Gradients, *, validated: bool = True
) -> Read:
    """Open the gradients of a pool at the last checkpoint, memory-mapped.

    Args:
        pool: every sample.
        signals: where they are.
        kind: signal of gradients.
        validated: whether those of the validation set are read, so that there must be some.

    Raises:
        MissingSignalError: the signal has not been computed.
        UserError: no sample of the validation set has a gradient.
    """
    read = _opened(pool, signals.of(kind), [0])[0]
    if validated:
        require_validation(read)
    return read


def read_checkpoints(pool: Pool, signals: Signals) -> list[Read]:
    """Open the gradients of a pool at each checkpoint of the reference fit, in their order.

    All hold the same samples: those that have a gradient at every checkpoint.

    Raises:
        MissingSignalError: the signal has not been computed.
        UserError: no sample of the validation set has a gradient.
    """
    signal = signals.of(Gradients)
    reads = _opened(pool, signal, [*range(1, len(signal.rates())), 0])
    require_validation(reads[-1])
    return reads


def require_validation(read: Read) -> None:
    """Refuse a validation set without a gradient: no sample would lower its loss.

    Raises:
        UserError: it has none.
    """
    if not len(read.validation.places):
        raise UserError(
            "no sample of the validation set (of the file in validation, else of the reference split) "
            "has a finite gradient, so nothing can be scored by it; name another file in validation, "
            "raise data.max_length, or compute in float32"
        )


def _opened(pool: Pool, signal: Gradients, checkpoints: list[int]) -> list[Read]:
    """Open the gradients at some checkpoints, by their number in `Gradients.at`."""

    def column(checkpoint: int, name: str) -> np.ndarray:
        return signal.column(signal.at(checkpoint, name))

    def finite(name: str) -> np.ndarray:
        """Rows of the columns that have a gradient at all checkpoints."""
        known = [np.isfinite(column(checkpoint, name)) for checkpoint in checkpoints]
        everywhere: np.ndarray = np.logical_and.reduce(known)
        return everywhere

    places, edges = signal.places(pool, np.arange(len(pool))), signal.edges()
    has = np.flatnonzero(places >= 0)
    rows = has[finite("length")[places[has]]]
    reference = rows[pool.reference[rows]]
    side, held, names = "", places[reference], pool.task[reference].astype(str)
    if signal.has_validation():
        side, held = "validation_", np.flatnonzero(finite("validation_length"))
        names = signal.column("validation_task")[held]
    tasks, task = np.unique(names, return_inverse=True)

    def opened(checkpoint: int, side: str, places: np.ndarray) -> influence.Gradients:
        direction, length = (column(checkpoint, f"{side}{n}") for n in ("direction", "length"))
        return influence.Gradients(direction, places, edges, length)

    return [
        Read(rows, opened(c, "", places[rows]), opened(c, side, held), task, len(tasks))
        for c in checkpoints
    ]
