"""Progress bar of the requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from presel_lightning.console import console, show_bars


class Show(Protocol):
    """Callback after every finished request."""

    def __call__(self, spent: float | None) -> None:
        """Advance by one; `spent` is the cost over all starts."""


@contextmanager
def progress(total: int) -> Iterator[Show]:
    """Show a progress bar on a terminal: requests done, rate, cost, time left.

    Args:
        total: number of requests.
    """
    columns = (
        TextColumn("  instructions"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[spent]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not show_bars()) as bar:
        number = bar.add_task("", total=total, rate="", spent="")

        def show(spent: float | None) -> None:
            task = next(task for task in bar.tasks if task.id == number)
            rate = f"{60 * task.speed:.0f}/min" if task.speed else ""
            cost = "" if spent is None else f"cost {spent:.2f}"
            bar.update(number, advance=1, rate=rate, spent=cost)

        yield show
