"""Results of a check, and their output."""

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
    """Results of a check.

    Attributes:
        facts: lines of the output, (what, figure) by section.
        failures: errors that will stop the run, each with its cure.
        notes: warnings.
    """

    facts: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, section: str, what: str, figure: str) -> None:
        """Add a line to the output."""
        self.facts.setdefault(section, []).append((what, figure))

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect a `UserError` as a failure and continue, so that one check finds all of them."""
        try:
            yield
        except UserError as error:
            text = " ".join(str(error).split())
            if text not in self.failures:
                self.failures.append(text)

    def show(self, console: Console) -> None:
        """Print facts and notes; `stop` raises the failures."""
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
        """Raise the failures, if there are any.

        Raises:
            UserError: with every failure in one line.
        """
        if self.failures:
            one = len(self.failures) == 1
            head = "check found 1 problem" if one else f"check found {len(self.failures)} problems"
            listed = "; ".join(f"({n}) {text}" for n, text in enumerate(self.failures, start=1))
            raise UserError(f"{head}: {listed}")


def share(part: int, whole: int) -> str:
    """Format a count with its share of a whole: `355 (0.4 %)`."""
    return f"{part:,} ({100 * part / max(1, whole):.1f} %)"
