"""Rules made of rules: `all`, `any` and `not`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from presel_lightning.filters.rule import FAILS, HOLDS, Limit, Names, Rows, Rule, refined


@dataclass(frozen=True)
class All(Rule):
    """All of some rules; rows that one of them refuses are not shown to those after it."""

    rules: tuple[Rule, ...]

    def columns(self) -> Sequence[Names]:
        """Those of its rules."""
        return [names for rule in self.rules for names in rule.columns()]

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """The minimum of the verdicts."""
        found = np.full(len(rows), HOLDS, np.int8)
        for rule in self.rules:
            refined(found, rows, rule, limits)
        return found

    def parts(self) -> Iterator[Rule]:
        """Those of its rules."""
        for rule in self.rules:
            yield from rule.parts()


@dataclass(frozen=True)
class Any(Rule):
    """At least one of some rules."""

    rules: tuple[Rule, ...]

    def columns(self) -> Sequence[Names]:
        """Those of its rules."""
        return [names for rule in self.rules for names in rule.columns()]

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """The maximum of the verdicts."""
        found = np.full(len(rows), FAILS, np.int8)
        for rule in self.rules:
            open_rows = np.flatnonzero(found != HOLDS)
            if len(open_rows):
                more = rule.verdicts(rows.take(open_rows), limits)
                found[open_rows] = np.maximum(found[open_rows], more)
        return found

    def parts(self) -> Iterator[Rule]:
        """Those of its rules."""
        for rule in self.rules:
            yield from rule.parts()


@dataclass(frozen=True)
class Not(Rule):
    """The opposite of a rule; what cannot be known stays so, and is left out."""

    rule: Rule

    def columns(self) -> Sequence[Names]:
        """Those of its rule."""
        return self.rule.columns()

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """2 minus the verdicts."""
        return HOLDS - self.rule.verdicts(rows, limits)

    def parts(self) -> Iterator[Rule]:
        """Those of its rule."""
        yield from self.rule.parts()
