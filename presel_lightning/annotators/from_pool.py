"""Existing instructions, revealed only for the selected images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from presel_lightning.annotators.base import Annotator, AnswerProblem, Names, Report, Request
from presel_lightning.annotators.journal import Journal
from presel_lightning.annotators.matching import Given, Matcher, take
from presel_lightning.data.annotations import read_entries
from presel_lightning.data.conversation import InvalidRecordError
from presel_lightning.records import OWN
from presel_lightning.run.line_file import LineFile

NAMES = ("uid", "image", "id", "task", OWN)
"""Fields that identify a record."""


class FromPool(Annotator):
    """Reveal the instructions of the selected images only, to simulate annotation in a study.

    `access.jsonl` in the folder of the answers lists every sample whose instruction was read, once,
    in order of access. A line is written before the instruction is used.

    Args:
        annotations: one or several annotation files in LLaVA form that hold the instructions.
            A record is matched by its `uid`, else by image, id and task. Without it the
            instructions are those of `data.annotations`; with it those are not read.
    """

    hides = True

    def __init__(self, annotations: str | list[str] | None = None) -> None:
        names = [annotations] if isinstance(annotations, str) else annotations or []
        self.paths = [Path(name).expanduser() for name in names]

    def write(self, requests: Sequence[Request], journal: Journal, names: Names) -> Report:
        """Read the instructions of the requests, and log each access.

        Raises:
            UserError: a file cannot be read.
        """
        log = LineFile(journal.folder / "access.jsonl")
        try:
            asked = {r.uid: r for r in requests}
            if self.paths:
                given = self._revealed(asked, Matcher(names), log)
            else:
                given = self._of_pool(asked, names, log)
            problems = take(given, requests, journal, names, type(self).__name__, bare=True)
        finally:
            log.close()
        listed = {problem.uid for problem in problems}
        lost = [r for r in requests if r.uid not in journal and r.uid not in listed]
        files = ", ".join(path.name for path in self.paths) or "the pool"
        detail = f"no record of {files} matches this sample uniquely"
        problems += [AnswerProblem(r.uid, r.image, "not_found", detail) for r in lost]
        return Report(problems=problems)

    def _of_pool(self, asked: dict[str, Request], names: Names, log: LineFile) -> Iterator[Given]:
        logged = {json.loads(line)["uid"] for line in log.lines}
        for uid, request in asked.items():
            if uid not in logged:
                log.append(json.dumps(access(request), ensure_ascii=False))
            yield Given(f"the pool, {uid}", {"uid": uid}, names.reveal(uid))

    def _revealed(
        self, asked: dict[str, Request], matcher: Matcher, log: LineFile
    ) -> Iterator[Given]:
        logged = {json.loads(line)["uid"] for line in log.lines}
        for path in self.paths:
            for entry in read_entries(path):
                names = {key: value for key, value in entry.record.items() if key in NAMES}
                try:
                    request = asked.get(matcher.uid(names))
                except InvalidRecordError:  # not in the pool, or ambiguous
                    continue
                if request is None or entry.fault:
                    continue
                if request.uid not in logged:
                    logged.add(request.uid)
                    log.append(json.dumps(access(request), ensure_ascii=False))
                place = f"{path.name}, {entry.unit} {entry.number}"
                yield Given(place, names, entry.record.get("conversations"))


def access(request: Request) -> dict[str, str]:
    """Return the log entry of a sample whose instruction is read."""
    return {"uid": request.uid, "image": request.image, "task": request.task, "why": request.why}
