"""What a signal is: its name, the stages and files that hold it, and how it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from presel_lightning.errors import MissingSignalError

S = TypeVar("S", bound="Signal")


class Signal(ABC):
    """Per-sample facts of one kind on disk, joined on uid.

    A subclass that has a `name` is known everywhere from its import on: to the recipe, `check`,
    `compare` and the report.

    Args:
        folder: `OUT/signals`.
    """

    name: ClassVar[str]
    """What a selector's `needs` calls it."""
    on_reference: ClassVar[bool] = False
    """Whether it rests on models that were tuned on the reference split."""
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]]
    """The stages that make it, in their order, and what each leaves in the run folder."""
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
        """Whether it has been made."""
        return self.path.exists()

    def require(self) -> Path:
        """The path of a signal that is about to be read.

        Raises:
            MissingSignalError: it has not been made.
        """
        if not self.exists():
            raise MissingSignalError(self.name, self.folder)
        return self.path

    @abstractmethod
    def read(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - each signal has its own form
        """Read it; `signals.NAME(...)` in a selector.

        Raises:
            MissingSignalError: it has not been made.
        """


class Signals:
    """The folder `OUT/signals`: `signals.features(pool, rows)` reads the signal of that name.

    Args:
        folder: where the recipe wrote the signals.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._made: dict[type[Signal], Signal] = {}

    def of(self, kind: type[S]) -> S:
        """The signal of a class, with all its methods."""
        signal = self._made.setdefault(kind, kind(self.folder))
        assert isinstance(signal, kind)
        return signal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The reader of the signal of that name."""
        if name not in Signal.known:
            raise AttributeError(f"no signal {name!r}; known: {', '.join(Signal.known)}")
        return self.of(Signal.known[name]).read


def made_by(*, on_reference: bool) -> dict[str, tuple[str, ...]]:
    """Stages that make the known signals, with what each leaves in the run folder.

    Args:
        on_reference: those of signals that rest on the reference split, or of all others.
    """
    kinds = [kind for kind in Signal.known.values() if kind.on_reference == on_reference]
    return {stage: files for kind in kinds for stage, files in kind.artifacts.items()}
