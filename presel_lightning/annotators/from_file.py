"""Answers from a file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from presel_lightning.annotators.base import Annotator, Names, Report, Request
from presel_lightning.annotators.journal import Journal
from presel_lightning.annotators.matching import Given, Matcher, from_turns, take
from presel_lightning.data.annotations import NO_RECORDS, read_entries, refused
from presel_lightning.data.conversation import InvalidRecordError
from presel_lightning.errors import UserError
from presel_lightning.records import Turn


class FromFile(Annotator):
    """Read the answers of a file; it is read again at every start.

    Args:
        path: LLaVA JSON, or JSON lines with `uid` or `image` and `conversations`, or CSV with
            the columns `uid` or `image`, `question`, `answer`; several rows of one image are the
            turns of its conversation. The file may not exist yet.
    """

    rereads = True

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()

    @property
    def cure(self) -> str:
        """Add the missing answers to the file."""
        where = f"annotator.init_args.path {self.path}"
        new = "" if self.path.is_file() else ", which does not exist yet"
        if self.path.suffix == ".csv":
            return f"write question and answer of each into {where}{new}"
        return f"write their conversations into {where}{new} (LLaVA JSON, JSON lines or CSV)"

    def write(self, requests: Sequence[Request], journal: Journal, names: Names) -> Report:
        """Store the valid answers of the requests.

        Raises:
            UserError: the file cannot be read, or is in none of these formats.
        """
        if not self.path.is_file():
            return Report()
        with self._text():
            given = read_given(self.path)
            return Report(problems=take(given, requests, journal, names, type(self).__name__))

    def holds(self, uids: Iterable[str], names: Names) -> bool:
        """Return whether the file has an answer, valid or not, to each of these samples.

        Raises:
            UserError: as `write`.
        """
        wanted = set(uids)
        if not wanted or not self.path.is_file():
            return not wanted
        matcher = Matcher(names)
        with self._text():
            for one in read_given(self.path):
                if not one.is_empty:
                    with suppress(InvalidRecordError):  # it names no sample, or several
                        wanted.discard(matcher.uid(one.names))
        return not wanted

    @contextmanager
    def _text(self) -> Iterator[None]:
        """Refuse a file that is no text."""
        try:
            yield
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(
                f"annotator.init_args.path {self.path}: not a text file in UTF-8; save it in UTF-8"
            ) from error


def read_given(path: Path) -> Iterator[Given]:
    """Read a file of answers; its first character, not its name, determines the format."""
    with path.open(encoding="utf-8-sig") as handle:
        first = next((line.lstrip()[0] for line in handle if line.strip()), "")
    return _rows(path) if first not in ("", "[", "{") else _records(path)


def _records(path: Path) -> Iterator[Given]:
    for number, entry in enumerate(read_entries(path), start=1):
        if entry.fault and entry.fault.problem in NO_RECORDS:
            raise refused(path, entry)
        fault = InvalidRecordError(*entry.fault) if entry.fault else None
        yield Given(f"record {number}", entry.record, entry.record.get("conversations"), fault)


def _rows(path: Path) -> Iterator[Given]:
    turns: dict[tuple[str, str], list[Turn]] = {}
    lines: dict[tuple[str, str], int] = {}
    with path.open(encoding="utf-8-sig", newline="") as handle:
        heading = handle.readline()
        handle.seek(0)
        # spreadsheets of some locales write semicolons
        rows = csv.DictReader(handle, delimiter=max(",;\t", key=heading.count))
        columns = set(rows.fieldnames or ())
        if not ({"question", "answer"} <= columns and columns & {"uid", "image"}):
            raise UserError(
                f"annotator.init_args.path {path}: neither JSON nor CSV with the columns question, "
                f"answer, and uid or image; its first line has {', '.join(sorted(columns))[:80]}"
            )
        for row in rows:
            name = row.get("uid") or "", row.get("image") or ""
            turn = Turn((row["question"] or "").strip(), (row["answer"] or "").strip())
            if turn.question or turn.answer:
                turns.setdefault(name, []).append(turn)
                lines.setdefault(name, rows.line_num)
    for (uid, image), conversation in turns.items():
        place = f"line {lines[uid, image]}"
        yield Given(place, {"uid": uid, "image": image}, from_turns(conversation))
