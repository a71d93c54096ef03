"""`filter`: the uids of a pool that pass all rules."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from presel_lightning.errors import UserError
from presel_lightning.filters.combine import All
from presel_lightning.filters.faults import Faults, Listed
from presel_lightning.filters.in_uids import InUids
from presel_lightning.filters.limits import first_limit, holding, looked_up, with_ties
from presel_lightning.filters.metadata import Metadata, Unit, file_system
from presel_lightning.filters.mixture import Mixture
from presel_lightning.filters.registry import described, label
from presel_lightning.filters.rule import STATUS, TEXT, Limit, Rule
from presel_lightning.filters.sampling import Sampling
from presel_lightning.filters.score_table import build
from presel_lightning.filters.scored import Scored
from presel_lightning.filters.stages import KeepStage, ScoreStage, TieStage
from presel_lightning.filters.uid_files import writing_uids
from presel_lightning.filters.uid_sets import Runs, parse_set, write_set
from presel_lightning.filters.uids import UID, order_of
from presel_lightning.run.executors import Executor, complete, one_at_a_time
from presel_lightning.run.files import make_folder, read_json, replacing, write_json
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.interruption import temporary_folder
from presel_lightning.run.units import state_of

FORMAT = 2
"""Of what lies in the work folder; another version starts again."""


@dataclass(frozen=True)
class FilterRun:
    """One call of `filter`.

    Args:
        metadata: folder, file or URL.
        rules: all must hold.
        output: subset file.
        scores: files of scores for the whole pool.
        uids: expression of subset files that rows must be in, too.
        sampling: draws among what passes, by a score.
        mixture: draws among what passes, by sources.
        faults: `stop` or `skip`.
        executor: who does the files.
        workers: at a time.
    """

    metadata: str
    rules: tuple[Rule, ...]
    output: Path
    scores: tuple[str, ...] = ()
    uids: str | None = None
    sampling: Sampling | None = None
    mixture: Mixture | None = None
    faults: Faults = "stop"
    executor: Executor = "local"
    workers: int = 1

    @property
    def work(self) -> Path:
        """Folder of the manifests; it goes when the subset file is there."""
        return self.output.with_name(f"{self.output.name}.work")

    @property
    def summary(self) -> Path:
        """What was counted, beside the subset file."""
        return self.output.with_suffix(".json")

    def run(self) -> dict[str, Any]:
        """Filter, unless the subset file of this very call is there; return what was counted."""
        units = Metadata(self.metadata).units()
        options = self._options()
        files, _ = file_system(self.metadata)
        contents = [[state_of(files, path) for path in unit.files] for unit in units]
        key = fingerprint([options, [unit.files for unit in units], contents])
        if known := self._done(key):
            return known
        make_folder(self.output.parent)
        with one_at_a_time(self.work, self.executor):
            if known := self._done(key):  # by another task of the array
                return known
            found = self._filter(tuple(units), tuple(contents), options)
            with FileLock(self.work / ".writing"):
                if self._done(key) is None:
                    self._write(found, key)
        counted: dict[str, Any] = read_json(self.summary)
        return counted

    def _options(self) -> str:
        """Name what defines the result, beside the metadata."""
        options = [str(self.scores), self.uids, self.sampling and asdict(self.sampling)]
        options += [asdict(self.mixture)] if self.mixture else []
        sources = [found for url in self.scores for found in _files_of(url)]
        rules = [[described(rule), states_in(rule)] for rule in self.rules]
        return fingerprint([FORMAT, options, sources, rules, self.faults])

    def _done(self, key: str) -> dict[str, Any] | None:
        known = read_json(self.summary) if self.summary.is_file() else {}
        return known if known.get("fingerprint") == key and self.output.is_file() else None

    def _filter(
        self, units: tuple[Unit, ...], contents: tuple[object, ...], options: str
    ) -> KeepStage:
        """All stages, each over all files."""
        listed = Listed(self.faults)
        rules = self.rules
        if self.uids is not None:
            place = self.work / "uids.npy"
            with FileLock(self.work / ".uids"):
                if not place.is_file():
                    write_set(parse_set(self.uids, self.work / "sorted"), place)
            rules = (*rules, InUids(str(place)))
        columns = {
            n for names in All(rules).columns() for n in names if names not in (TEXT, STATUS)
        }
        columns |= {self.sampling.score} if self.sampling else set()
        tables = []
        for number, url in enumerate(self.scores):
            folder = self.work / f"scores-{number}-{options}"
            with FileLock(self.work / f".scores-{number}"):
                tables.append(build(url, tuple(sorted(columns)), folder, listed))
        metadata = Metadata(self.metadata, tuple(tables))
        base = Base(self.work, options, metadata, units, contents, self.faults)
        limits = self._limits(base, [part for rule in rules for part in rule.parts()])
        score = self.sampling.score if self.sampling else None
        keep = KeepStage(
            **base.arguments("keep", repr(limits)),
            rules=rules,
            limits=limits,
            score=score,
            mixture=self.mixture,
        )
        complete(keep, range(len(units)), self.executor, self.workers, "metadata files")
        return keep

    def _limits(self, base: Base, rules: Sequence[Rule]) -> tuple[tuple[Rule, Limit], ...]:
        """From which score on each fraction is kept; first the scores, then the ties that matter."""
        ranked = tuple(
            dict.fromkeys(r for r in rules if isinstance(r, Scored) and r.fraction is not None)
        )
        if not ranked:
            return ()
        stage = ScoreStage(**base.arguments("scores"), rules=ranked)
        complete(stage, range(len(base.units)), self.executor, self.workers, "scores")
        rows = sum(manifest["rows"] for manifest in stage.manifests())
        runs = {rule: looked_up(stage.arrays(str(n))) for n, rule in enumerate(ranked)}
        found = {rule: first_limit(rule, runs[rule], rows) for rule in ranked}
        open_ties = tuple((rule, limit.score) for rule, (limit, ties) in found.items() if ties >= 0)
        limits: dict[Rule, Limit] = {rule: limit for rule, (limit, _) in found.items()}
        if open_ties:
            ties = TieStage(**base.arguments("ties", repr(open_ties)), limits=open_ties)
            tied = sorted({n for rule, score in open_ties for n in holding(runs[rule], score)})
            complete(ties, tied, self.executor, self.workers, "ties")
            for number, (rule, _) in enumerate(open_ties):
                limit, wanted = found[rule]
                some = {n: ties.mapped(n, str(number)) for n in tied}
                limits[rule] = with_ties(limit, wanted, some)
        return tuple(limits.items())

    def _write(self, stage: KeepStage, key: str) -> None:
        """The subset file, the list of faults, and last what was counted."""
        counts: Counter[str] = Counter()
        nulls: Counter[str] = Counter()
        seen, passed = (np.zeros(len(stage.rules), np.int64) for _ in range(2))
        faults: Counter[str] = Counter()
        problems = self.output.with_suffix(".problems.csv")
        with replacing(problems) as part, part.open("w", encoding="utf-8", newline="") as text:
            table = csv.writer(text)
            table.writerow(["file", "problem", "detail"])
            for manifest in stage.manifests():
                for name in ("rows", "unknown", "without_score", "without_group", "kept"):
                    counts[name] += manifest.get(name, 0)
                nulls.update(manifest["nulls"])
                seen, passed = seen + manifest["seen"], passed + manifest["passed"]
                faults.update(problem for _, problem, _ in manifest["faults"])
                table.writerows(manifest["faults"])
        uids = stage.arrays("uids")
        if self.sampling is not None:
            written = sampled(self.sampling, uids, stage.arrays("scores"), self.output)
        elif self.mixture is not None:
            written = mixed(self.mixture, uids, stage.arrays("groups"), self.output)
        else:
            written = write_set(Runs(uids), self.output)
        rules = [
            {"rule": label(rule), "seen": int(s), "passed": int(p), "options": described(rule)}
            for rule, s, p in zip(stage.rules, seen, passed, strict=True)
        ]
        write_json(
            self.summary,
            {
                "fingerprint": key,
                "metadata": self.metadata,
                "files": len(stage.units),
                **counts,
                "written": written,
                "nulls": nulls,
                "rules": rules,
                "limits": {label(rule): finite(limit.score) for rule, limit in stage.limits},
                "sampling": self.sampling and asdict(self.sampling),
                "mixture": self.mixture and self.mixture.quotas(),
                "faults": faults,
            },
        )


@dataclass(frozen=True)
class Base:
    """What all stages of a call share."""

    folder: Path
    key: str
    metadata: Metadata
    units: tuple[Unit, ...]
    contents: tuple[object, ...]
    faults: Faults

    def arguments(self, name: str, more: str = "") -> dict[str, Any]:
        """Arguments of a stage."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**own, "folder": self.folder / name, "key": self.key + more}


def finite(score: float) -> float | None:
    """A score as JSON has it; None for an infinite one, which nothing or everything reaches."""
    return score if np.isfinite(score) else None


def sampled(
    sampling: Sampling, uids: Sequence[np.ndarray], scores: Sequence[np.ndarray], path: Path
) -> int:
    """Draw among uids by their scores, and write each as often as it was drawn."""
    joined = np.concatenate([np.empty(0, UID), *uids])
    values = np.concatenate([np.empty(0), *scores])
    order = np.lexsort((values, joined["f1"], joined["f0"]))
    counts = sampling.counts(values[order])
    with writing_uids(path) as append:
        append(np.repeat(joined[order], counts))
    return int(counts.sum())


def mixed(
    mixture: Mixture, uids: Sequence[np.ndarray], groups: Sequence[np.ndarray], path: Path
) -> int:
    """Draw the shares of a mixture, and write each uid as often as it was drawn."""
    joined = np.concatenate([np.empty(0, UID), *uids])
    counts = mixture.counts(np.concatenate([np.empty(0, np.int16), *groups]), joined)
    order = order_of(joined)
    with writing_uids(path) as append:
        append(np.repeat(joined[order], counts[order]))
    return int(counts.sum())


def combine_uids(expression: str, output: Path) -> int:
    """Write the set that an expression of subset files describes; return how many uids it holds."""
    make_folder(output.parent)
    with temporary_folder() as folder:
        return write_set(parse_set(expression, folder), output)


def states_in(rule: Rule) -> list[Any]:
    """States of the files that a rule names."""
    files, _ = file_system("file:///")
    names = [
        value
        for part in rule.parts()
        for f in fields(part)  # type: ignore[arg-type]
        if isinstance(value := getattr(part, f.name), str) and Path(value).is_file()
    ]
    return [[name, state_of(files, name)] for name in names]


def _files_of(url: str) -> list[Any]:
    try:
        files, root = file_system(url)
        found = [root] if files.isfile(root) else sorted(files.find(root))
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"--scores {url}: cannot be listed ({error})") from error
    return [[path, state_of(files, path)] for path in found]
