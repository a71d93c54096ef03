"""What a check found, and the screen that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from presel_lightning.errors import UserError


@dataclass
class Report:
    """What was found.

    Attributes:
        facts: lines of the screen, (what, figure) by section.
        failures: what will stop the run later, each with its cure.
        notes: what one should know and the run survives.
    """

    facts: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, section: str, what: str, figure: str) -> None:
        """Put a line on the screen."""
        self.facts.setdefault(section, []).append((what, figure))

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Take a user's mistake down and go on, so that one look finds all of them."""
        try:
            yield
        except UserError as error:
            text = " ".join(str(error).split())
            if text not in self.failures:
                self.failures.append(text)

    def show(self, console: Console) -> None:
        """Print the screen; what will fail is told by `stop`."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for section, lines in self.facts.items():
            for number, (what, figure) in enumerate(lines):
                table.add_row("" if number else section, escape(what), escape(figure))
        console.print(table)
        for note in self.notes:
            console.print(f"[yellow]![/] {escape(note)}", soft_wrap=True)
        if not self.failures:
            console.print("[green]✓[/] nothing found that would stop the run")

    def stop(self) -> None:
        """Raise what will fail later, if anything will.

        Raises:
            UserError: with every failure in one line.
        """
        if self.failures:
            one = len(self.failures) == 1
            head = "check found 1 problem" if one else f"check found {len(self.failures)} problems"
            listed = "; ".join(f"({n}) {text}" for n, text in enumerate(self.failures, start=1))
            raise UserError(f"{head}: {listed}")


def size(n_bytes: float) -> str:
    """An amount of memory as a person says it: `12 kB`, `3.1 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000:
            break
        n_bytes /= 1000
    else:
        unit = "PB"
    return f"{n_bytes:.0f} {unit}" if n_bytes >= 10 or unit == "B" else f"{n_bytes:.1f} {unit}"


def share(part: int, whole: int) -> str:
    """A count with its part of a whole: `355 (0.4 %)`."""
    return f"{part:,} ({100 * part / max(1, whole):.1f} %)"
