"""Selection from arrays: features of any encoder in, row numbers out, without files."""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.data.pool import Pool
from presel_lightning.data.sizes import count_of
from presel_lightning.errors import MissingSignalError, UserError
from presel_lightning.selectors.base import Selector
from presel_lightning.signals import Features, Signals

Array = np.ndarray | Tensor | Sequence[Any]

_BLOCK = 4096


def select(
    features: Array,
    tasks: Sequence[str] | np.ndarray | None = None,
    *,
    budget: float = 0.15,
    method: str | Selector = "Medoids",
    seed: int = 0,
    excluded: Array | None = None,
) -> np.ndarray:
    """Select rows of a table of features, such as images to annotate by their embeddings.

    Rows are L2-normalized first, as the recipe's features are. The result depends on the rows and
    their tasks, not on their order, except that of equal rows the first is selected.

    Args:
        features: (N, D) of a float dtype, one row per image, of any encoder; an array in memory or
            memory-mapped, a tensor, or nested lists.
        tasks: (N,) name of the task of each row; None is one task.
        budget: rows to select: 0 < x <= 1 is a fraction of N (1 is everything), an integer from 2
            a count. It is met exactly, or with all rows that are not excluded.
        method: selector or its class name. It must need no signal but features.
        seed: seed of every random number.
        excluded: rows that are never selected, such as annotated ones: (N,) bool, or their row
            numbers. `Medoids` and `TypiClust` count them as selected already.

    Returns:
        (n,) int64 row numbers, ascending.

    Raises:
        UserError: shapes differ, a feature is not finite, the budget is invalid, or the method is
            unknown or needs more than features.

    >>> rows = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]])
    >>> len(select(rows, budget=2))
    2
    """
    table = _table(features)
    n = len(table)
    names = np.full(n, "all", dtype=object) if tasks is None else np.array(tasks, dtype=object)
    if names.shape != (n,):
        raise UserError(f"tasks has shape {names.shape} for {n} rows of features; give one a row")
    selector = method if isinstance(method, Selector) else _selector(method)
    if more := [need for need in selector.needs if need != Features.name]:
        raise UserError(
            f"method {type(selector).__name__} needs {' and '.join(more)}, and only features are "
            f"given; choose from {', '.join(by_features())}"
        )
    pool = ArrayPool(table, names, _marks(excluded, n))
    total = min(count_of(budget, n, "budget"), int((~pool.reference).sum()))
    found = selector.select(pool, ArraySignals(table, pool), total, seed=seed)
    rows: np.ndarray = np.sort(pool.row[pool.rows(found.uids)])
    return rows


def by_features() -> list[str]:
    """Return the names of the selectors that need no signal but features."""
    from presel_lightning import selectors

    classes = {name: getattr(selectors, name) for name in selectors.__all__}
    kinds = {k: v for k, v in classes.items() if inspect.isclass(v) and issubclass(v, Selector)}
    return [
        name
        for name, kind in kinds.items()
        if not inspect.isabstract(kind)
        and set(kind.needs) <= {Features.name}
        # one with a required argument reads a file
        and all(p.default is not p.empty for p in inspect.signature(kind).parameters.values())
    ]


class ArrayPool(Pool):
    """The rows of a table of features as a pool: no records, no files.

    Args:
        table: (N, D) features.
        tasks: (N,) task of each row.
        excluded: (N,) bool; these form the reference split.

    Attributes:
        row: (N,) row number in the table of each sample of the pool.
    """

    def __init__(self, table: np.ndarray, tasks: np.ndarray, excluded: np.ndarray) -> None:
        uid = _uids(table, tasks)
        self.row = np.argsort(uid)
        self.uid = self.id = self.image = uid[self.row]
        self.task = tasks[self.row].astype(str).astype(object)
        self.tasks = tuple(sorted(set(self.task)))
        self.sizes = dict(Counter(self.task.tolist()))
        self.reference = excluded[self.row]
        self.earlier = np.zeros(len(uid), dtype=bool)


class ArraySignals(Signals):
    """Features of an `ArrayPool`, L2-normalized; no other signal exists."""

    def __init__(self, table: np.ndarray, pool: ArrayPool) -> None:
        self._table, self._row = table, pool.row

    def features(self, pool: Pool, rows: np.ndarray) -> np.ndarray:
        """Read the features of some rows of the pool, (len(rows), D) float32."""
        found = torch.from_numpy(np.asarray(self._table[self._row[rows]], dtype=np.float32))
        normalized: np.ndarray = normalize(found, dim=1).numpy()
        return normalized

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as `Signals` has it
        """Refuse every other signal."""
        raise MissingSignalError(name, "features alone")


def _table(features: Array) -> np.ndarray:
    table = features.detach().cpu() if isinstance(features, Tensor) else features
    if isinstance(table, Tensor):
        table = (table.float() if table.dtype == torch.bfloat16 else table).numpy()
    if not isinstance(table, np.ndarray):
        try:
            table = np.array(table)
        except ValueError as error:
            raise UserError(f"features is no table ({error}); give (rows, dimensions)") from error
    if table.ndim != 2 or not len(table) or not np.issubdtype(table.dtype, np.floating):
        raise UserError(
            f"features is {table.dtype} of shape {table.shape}; give floats, (rows, dimensions)"
        )
    for start in range(0, len(table), _BLOCK):
        wrong = ~np.isfinite(table[start : start + _BLOCK]).all(axis=1)
        if wrong.any():
            row = start + int(np.flatnonzero(wrong)[0])
            raise UserError(f"features of row {row} are not all finite; leave such rows out")
    return table


def _marks(excluded: Array | None, n: int) -> np.ndarray:
    marks = np.zeros(n, dtype=bool)
    given = np.asarray([] if excluded is None else excluded)
    if not given.size:
        return marks
    if given.dtype == bool and given.shape != (n,):
        raise UserError(f"excluded has shape {given.shape} for {n} rows of features")
    if given.dtype != bool and not (
        np.issubdtype(given.dtype, np.integer) and 0 <= given.min() and given.max() < n
    ):
        raise UserError(f"excluded is neither (N,) bool nor row numbers from 0 to {n - 1}")
    marks[given] = True
    return marks


def _selector(name: str) -> Selector:
    if name not in by_features():
        raise UserError(f"method {name!r} is unknown; choose from {', '.join(by_features())}")
    from presel_lightning import selectors

    selector: Selector = getattr(selectors, name)()
    return selector


def _uids(table: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Name each row by its content and task; equal ones are numbered in their order."""
    seen: Counter[bytes] = Counter()
    uids = []
    for task, row in zip(tasks, table, strict=True):
        content = hashlib.blake2b(
            str(task).encode() + b"\0" + (row + 0.0).tobytes(), digest_size=12
        )
        digest = content.digest()
        uids.append(f"{content.hexdigest()}{seen[digest]:08x}")
        seen[digest] += 1
    return np.array(uids, dtype=object)
