"""What is done to each metadata file: its scores sorted, its ties, the uids that pass."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from presel_lightning.filters.columns import WrongType
from presel_lightning.filters.combine import All
from presel_lightning.filters.faults import Fault, Faults, Listed
from presel_lightning.filters.limits import TIE
from presel_lightning.filters.metadata import Metadata, Unit
from presel_lightning.filters.mixture import Mixture
from presel_lightning.filters.rule import HOLDS, UNKNOWN, Limit, Names, Rows, Rule, refined
from presel_lightning.filters.scored import Scored, as_scores
from presel_lightning.filters.uids import UID, order_of, scrambled
from presel_lightning.run.units import Manifest, Stage


@dataclass(frozen=True)
class FilterStage(Stage):
    """One pass over the metadata files.

    Args:
        folder: of the manifests.
        key: what else defines the result.
        metadata: of the pool.
        units: its files.
        contents: what names the content of each.
        faults: what is done about faults.
    """

    metadata: Metadata
    units: tuple[Unit, ...]
    contents: tuple[object, ...]
    faults: Faults

    needs_uids: ClassVar[bool] = True

    def defined_by(self, number: int) -> object:
        """The metadata file and those beside it."""
        return [self.units[number].files, self.contents[number]]

    def arrays(self, name: str) -> list[np.ndarray]:
        """Those of all units, mapped into memory."""
        return [self.mapped(unit.number, name) for unit in self.units]

    def manifests(self) -> Iterator[Manifest]:
        """What the units have counted."""
        for unit in self.units:
            yield self.read(unit.number)

    def __call__(self, number: int) -> None:
        """Do a unit; a fault of its file leaves it out as a whole."""
        unit, listed = self.units[number], Listed(self.faults)
        try:
            found = self.do(unit, self.rows(unit), listed)
        except (Fault, WrongType) as error:
            listed = Listed(self.faults)
            listed.add(_fault(unit, error))
            found = self.do(unit, iter(()), listed)
        self.finish(number, {**found, "faults": listed.found})

    def rows(self, unit: Unit) -> Iterator[Rows]:
        """The rows of a unit with the columns of this stage."""
        return self.metadata.batches(unit, self.columns, needs_uids=self.needs_uids)

    @property
    @abstractmethod
    def columns(self) -> list[Names]:
        """What is read."""

    @abstractmethod
    def do(self, unit: Unit, batches: Iterator[Rows], listed: Listed) -> Manifest:
        """Write the arrays of a unit, and return what it counts; list faults of single rows."""


@dataclass(frozen=True)
class ScoreStage(FilterStage):
    """The scores that rules keep a fraction of, sorted: `0.npy`, `1.npy`, … a rule each.

    Rows whose uid is malformed are rows of the pool here.
    """

    rules: tuple[Scored, ...] = ()

    needs_uids: ClassVar[bool] = False

    @property
    def columns(self) -> list[Names]:
        """Those of the rules."""
        return [names for rule in self.rules for names in rule.columns()]

    def do(self, unit: Unit, batches: Iterator[Rows], listed: Listed) -> Manifest:
        """Sort."""
        found: list[list[np.ndarray]] = [[] for _ in self.rules]
        rows = 0
        for batch in batches:
            rows += len(batch)
            for parts, rule in zip(found, self.rules, strict=True):
                parts.append(rule.population(batch))
        for number, parts in enumerate(found):
            scores = np.concatenate(parts) if parts else np.empty(0)
            scores.sort()  # NaN last
            self.save(unit.number, str(number), scores[: np.searchsorted(scores, np.nan)])
        return {"rows": rows}


@dataclass(frozen=True)
class TieStage(FilterStage):
    """The rows that have just the score at a limit, sorted by their scrambled uids."""

    limits: tuple[tuple[Scored, float], ...] = ()

    @property
    def columns(self) -> list[Names]:
        """Those of the rules."""
        return [names for rule, _ in self.limits for names in rule.columns()]

    def do(self, unit: Unit, batches: Iterator[Rows], listed: Listed) -> Manifest:
        """Collect and sort."""
        found: list[list[np.ndarray]] = [[np.empty(0, TIE)] for _ in self.limits]
        for batch in batches:
            for ties, (rule, score) in zip(found, self.limits, strict=True):
                tied = np.flatnonzero(rule.population(batch) == np.float64(score))
                rows = np.empty(len(tied), TIE)
                uids, valid = batch.take(tied).parsed
                rows["key"], rows["row"] = scrambled(uids), batch.start + tied
                ties.append(rows[valid])
        for number, ties in enumerate(found):
            rows = np.concatenate(ties)
            self.save(unit.number, str(number), rows[np.lexsort((rows["row"], rows["key"]))])
        return {}


@dataclass(frozen=True)
class KeepStage(FilterStage):
    """The uids that pass all rules, sorted; for draws, with their scores or groups beside them."""

    rules: tuple[Rule, ...] = ()
    limits: tuple[tuple[Rule, Limit], ...] = ()
    score: str | None = None
    mixture: Mixture | None = None

    @property
    def columns(self) -> list[Names]:
        """Those of the rules, and that of the draws."""
        own = [self.score, self.mixture and self.mixture.by]
        return [*All(self.rules).columns(), *((name,) for name in own if name)]

    @cached_property
    def _limits(self) -> dict[Rule, Limit]:
        return dict(self.limits)

    def do(self, unit: Unit, batches: Iterator[Rows], listed: Listed) -> Manifest:
        """Ask the rules in their order; what one refuses is not shown to the next."""
        kept: list[np.ndarray] = []
        scores, groups = [np.empty(0)], [np.empty(0, np.int16)]
        counts: Counter[str] = Counter()
        nulls: Counter[str] = Counter()
        seen, passed = [0] * len(self.rules), [0] * len(self.rules)
        for rows in batches:
            counts["rows"] += len(rows)
            for name in rows.table.column_names:
                nulls[name] += rows.table.column(name).null_count
            found = np.full(len(rows), HOLDS, np.int8)
            for number, rule in enumerate(self.rules):
                seen[number] += int(np.count_nonzero(found))
                refined(found, rows, rule, self._limits)
                passed[number] += int(np.count_nonzero(found == HOLDS))
            counts["unknown"] += int(np.count_nonzero(found == UNKNOWN))
            chosen, own = _well_formed(rows.take(np.flatnonzero(found == HOLDS)), unit, listed)
            if self.score is not None:
                some = as_scores(chosen.column((self.score,)), (self.score,))
                known = ~np.isnan(some)
                counts["without_score"] += len(some) - int(known.sum())
                own, some = own[known], some[known]
                scores.append(some)
            if self.mixture is not None:
                codes = self.mixture.codes(chosen.column((self.mixture.by,)))
                counts["without_group"] += int(np.count_nonzero(codes < 0))
                own = own[codes >= 0]
                groups.append(codes[codes >= 0])
            kept.append(own)
        uids = kept[0] if len(kept) == 1 else np.concatenate([np.empty(0, UID), *kept])
        order = order_of(uids)
        self.save(unit.number, "uids", uids[order])
        if self.score is not None:
            self.save(unit.number, "scores", np.concatenate(scores)[order])
        if self.mixture is not None:
            self.save(unit.number, "groups", np.concatenate(groups)[order])
        by_name = {name: n for name, n in nulls.items() if n and name != "uid"}
        return {**counts, "kept": len(uids), "nulls": by_name, "seen": seen, "passed": passed}


def _fault(unit: Unit, error: Fault | WrongType) -> Fault:
    return error if isinstance(error, Fault) else Fault(unit.path, "wrong_type", str(error))


def _well_formed(rows: Rows, unit: Unit, listed: Listed) -> tuple[Rows, np.ndarray]:
    """The rows whose uid is one, and these uids; the others are listed."""
    uids, valid = rows.parsed
    if valid.all():
        return rows, uids
    wrong = rows.take(np.flatnonzero(~valid))
    for number, value in zip(wrong.numbers.tolist(), wrong.uid_texts(), strict=True):
        listed.add(Fault(unit.path, "malformed_uid", f"row {number}: {value!r}"))
    return rows.take(np.flatnonzero(valid)), uids[valid]
