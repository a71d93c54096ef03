"""Base class of a signal: its name, the stages and files that hold it, and its reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.errors import MissingSignalError, UserError
from presel_lightning.run.arrays import move_array, new_array
from presel_lightning.run.files import replacing_folder, write_json

S = TypeVar("S", bound="Signal")


class Signal(ABC):
    """Per-sample values of one kind on disk, joined on uid.

    A subclass with a `name` is registered on import: the recipe, `check`, `compare` and the report
    then know it.

    Args:
        folder: `OUT/signals`.
    """

    name: ClassVar[str]
    """Name of the signal in a selector's `needs`."""
    on_reference: ClassVar[bool] = False
    """Whether the signal depends on models that were tuned on the reference split."""
    smallest_reference: ClassVar[int] = 1
    """Samples of the reference split that it needs at least, if it rests on that."""
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]]
    """Stages that make the signal, in order, and the artifacts of each in the run folder."""
    known: ClassVar[dict[str, type[Signal]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401 - as `object` has it
        """Register a signal under its name."""
        super().__init_subclass__(**options)
        if "name" in vars(cls):
            Signal.known[cls.name] = cls

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @property
    def path(self) -> Path:
        """The file or folder that holds the signal: the last artifact of its last stage."""
        return self.folder.parent / list(self.artifacts.values())[-1][-1]

    def exists(self) -> bool:
        """Return whether the signal has been computed."""
        return self.path.exists()

    def require(self) -> Path:
        """Return the path of the signal, which must exist.

        Raises:
            MissingSignalError: it has not been computed.
        """
        if not self.exists():
            raise MissingSignalError(self.name, self.folder)
        return self.path

    @abstractmethod
    def read(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - each signal has its own form
        """Read the signal; a selector calls it as `signals.NAME(...)`.

        Raises:
            MissingSignalError: it has not been computed.
        """


COPIED = 1 << 12
"""Rows of a column that are copied at a time."""


class ColumnSignal(Signal):
    """A folder with an array for each column, and a row for each sample that has an instruction.

    `uid.npy` (N,) names all samples of the pool, `row.npy` (N,) gives the row of each in the
    columns, -1 where it has no instruction; `meta.json` is written last.
    """

    def exists(self) -> bool:
        """Return whether the columns have been computed."""
        return (self.path / "meta.json").exists()

    def read(self, pool: Pool, rows: np.ndarray, column: str) -> np.ndarray:
        """Read a column for some rows of the pool, (n, ...) float32.

        NaN where a sample has no value: it has no instruction, or the value is not finite.

        Raises:
            MissingSignalError: the signal has not been computed, or not for these samples.
        """
        place, values = self.places(pool, rows), self.column(column)
        found = np.full((len(rows), *values.shape[1:]), np.nan, dtype=np.float32)
        for start in range(0, len(rows), COPIED):
            own, block = place[start : start + COPIED], found[start : start + COPIED]
            block[own >= 0] = values[own[own >= 0]]
            block[~np.isfinite(block)] = np.nan
        return found

    def column(self, name: str) -> np.ndarray:
        """Open a column, memory-mapped: (V, ...) for the V samples with an instruction.

        Raises:
            MissingSignalError: the signal has not been computed.
        """
        column: np.ndarray = np.load(self.require() / f"{name}.npy", mmap_mode="r")
        return column

    def places(self, pool: Pool, rows: np.ndarray) -> np.ndarray:
        """Return the row of `column` for some rows of the pool, (n,); -1 where there is none.

        Raises:
            MissingSignalError: the signal has not been computed, or not for these samples.
        """
        self.require()
        uids, order, place = self._uids
        wanted = pool.uid[rows].astype(uids.dtype)
        found = np.searchsorted(uids, wanted) % max(1, len(uids))
        if not np.array_equal(uids[found], wanted):
            raise MissingSignalError(self.name, self.folder)
        places: np.ndarray = place[order[found]]
        return places

    @cached_property
    def _uids(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sorted uids, the place of each in `uid.npy`, and the rows in the columns."""
        uids: np.ndarray = np.load(self.path / "uid.npy")
        order = np.argsort(uids)
        return uids[order], order, np.load(self.path / "row.npy")

    def write(
        self,
        pool: Pool,
        has: np.ndarray,
        columns: Mapping[str, np.ndarray],
        meta: Mapping[str, Any],
        *,
        move: bool = False,
    ) -> None:
        """Write the columns atomically.

        Args:
            pool: every sample.
            has: (N,) bool, the samples that the columns have a row for.
            columns: (V, ...) values in the order of the pool, memory-mapped or not.
            meta: provenance.
            move: take the file of a column that is mapped for writing, where it can be renamed, so that
                it takes its space once. Its blocks must stay: they make it again if this fails.
        """
        with replacing_folder(self.path) as folder:
            for name, values in columns.items():
                path = folder / f"{name}.npy"
                if not (move and move_array(values, path)):
                    copy_column(values, path)
            np.save(folder / "uid.npy", pool.uid.astype("S32"))
            np.save(folder / "row.npy", np.where(has, np.cumsum(has) - 1, -1))
            write_json(folder / "meta.json", {**meta, "columns": sorted(columns)})
        vars(self).pop("_uids", None)  # cached from the previous files


def copy_column(values: np.ndarray, path: Path) -> None:
    """Copy an array to a file, some rows at a time."""
    array = new_array(path, values.dtype, values.shape)
    for start in range(0, len(values), COPIED):
        array[start : start + COPIED] = values[start : start + COPIED]
    array.flush()  # type: ignore[attr-defined]


class Signals:
    """The folder `OUT/signals`: `signals.features(pool, rows)` reads the signal of that name.

    Args:
        folder: where the recipe wrote the signals.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._made: dict[type[Signal], Signal] = {}

    def of(self, kind: type[S]) -> S:
        """Return the signal of a class, with all its methods."""
        signal = self._made.setdefault(kind, kind(self.folder))
        assert isinstance(signal, kind)
        return signal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the reader of the signal of that name."""
        if name not in Signal.known:
            raise AttributeError(f"no signal {name!r}; known: {', '.join(Signal.known)}")
        return self.of(Signal.known[name]).read


def made_by(*, on_reference: bool) -> dict[str, tuple[str, ...]]:
    """Return the stages that make the known signals, with the artifacts of each.

    Args:
        on_reference: signals that depend on the reference split, or all others.
    """
    kinds = [kind for kind in Signal.known.values() if kind.on_reference == on_reference]
    return {stage: files for kind in kinds for stage, files in kind.artifacts.items()}


def require_samples(needs: Iterable[str], reference: int, asked: object) -> None:
    """Check that the reference split is large enough for the signals that rest on it.

    Args:
        needs: names of signals.
        reference: samples of the reference split.
        asked: value of `data.reference`, for the message.

    Raises:
        UserError: it is too small for one of them.
    """
    for name in needs:
        least = Signal.known[name].smallest_reference
        if Signal.known[name].on_reference and reference < least:
            raise UserError(
                f"data.reference is {asked} ({reference} samples), and signal `{name}` needs at "
                f"least {least}; raise it"
            )
