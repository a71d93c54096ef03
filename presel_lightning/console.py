"""What a person sees while a run goes on; bars are shown on a terminal only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")

console = Console(highlight=False)


def show_bars() -> bool:
    """Whether progress bars make sense here."""
    return console.is_terminal and not console.quiet


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        """The speed, once there is one."""
        return Text("" if task.speed is None else f"{task.speed:.0f}/s")


def track(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    """Pass items on with a bar that tells rate and time left."""
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not show_bars()) as progress:
        yield from progress.track(items, total=total, description=what)


def seconds(value: float) -> str:
    """A duration as a person says it: `3.2 s`, `4 min 10 s`, `2 h 5 min`."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
