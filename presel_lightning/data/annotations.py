"""Annotation files as a stream of records, and the fault of each that has one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from presel_lightning.data.coco import coco_entries, is_coco
from presel_lightning.data.csv_records import csv_entries, is_csv
from presel_lightning.data.entries import Entry, Fault, Record
from presel_lightning.data.forms import adopt
from presel_lightning.data.json_records import FORM, json_entries
from presel_lightning.data.values import AnswerLists
from presel_lightning.errors import UserError

OTHER_FORMS = (
    ("conversation",),
    ("query", "response"),
    ("instruction", "output"),
    ("prompt", "response"),
    ("prompt", "completion"),
)
"""Fields that hold an instruction elsewhere; a form is recognized by all of its fields."""
FIRST = 100
"""Records of a file that its form is judged by."""
NO_RECORDS = ("not_json", "not_a_record")


def read_entries(
    path: Path,
    task_key: str = "task",
    answer_lists: AnswerLists = "refuse",
    caption_key: str | None = None,
) -> Iterator[Entry]:
    """Stream the records of an annotation file in LLaVA's form; a faulty one is an entry with a fault.

    A file called .csv or .tsv is a table. Any other is JSON, JSON lines or captions in COCO's layout,
    as its first characters tell, never its name; see `adopted` for the forms of its records.

    Args:
        path: of the file.
        task_key: column that names the task of a table's row.
        answer_lists: what becomes of an answer that is a list.
        caption_key: field of a record that holds a caption; see `captioned`.

    Raises:
        UserError: the file is missing, empty, or a list that breaks off.
    """
    if is_csv(path):
        entries = csv_entries(path, task_key)
    elif is_coco(path):
        entries = coco_entries(path, task_key)
    else:
        entries = json_entries(path)
    return (adopt(entry, answer_lists, caption_key) for entry in entries)


def read_records(paths: Path | Sequence[Path], task_key: str = "task") -> Iterator[Record]:
    """Stream the records of one or several annotation files of which none may be faulty.

    Args:
        paths: of the files.
        task_key: column that names the task of a table's row.

    Raises:
        UserError: a file cannot be read, or a record has a fault.
    """
    for path in [paths] if isinstance(paths, Path) else paths:
        for entry in read_entries(path, task_key):
            if entry.fault:
                raise refused(path, entry)
            yield entry.record


def refused(path: Path, entry: Entry) -> UserError:
    """The error that names a faulty record of a file that may hold none."""
    problem, detail = entry.fault or ("", "")
    place = f"{path}, {entry.unit} {entry.number}"
    return UserError(f"{place}: {detail[:120]} ({problem}); {FORM}")


def judged(entries: Iterable[Entry], path: Path) -> Iterator[Entry]:
    """Refuse a file by its first records together; later, each faulty one is only a problem.

    A record without `conversations` and with an instruction in another tool's form would pass for
    an image whose instruction is not written yet.

    Raises:
        UserError: most of the first records are none, or are in another tool's form.
    """
    stream = iter(entries)
    first = list(islice(stream, FIRST))
    none = [entry for entry in first if entry.fault and entry.fault.problem in NO_RECORDS]
    if 2 * len(none) > len(first):
        raise refused(path, none[0])
    foreign = [entry for entry in first if other_form(entry.record)]
    if 2 * len(foreign) > len(first):
        raise _other_tools(path, foreign[0].record, len(foreign), len(first))
    for entry in chain(first, stream):
        if entry.fault is None and (form := other_form(entry.record)):
            detail = f"{form} and no `conversations`: another tool's form"
            entry.fault = Fault("other_form", detail)
        yield entry


def other_form(record: Record) -> str | None:
    """Fields of a record without `conversations` that hold an instruction in another form."""
    if record.get("conversations"):
        return None
    for form in OTHER_FORMS:
        if all(record.get(key) for key in form):
            return " and ".join(f"`{key}`" for key in form)
    return None


def _other_tools(path: Path, record: Record, n: int, n_first: int) -> UserError:
    named = str(record.get("image") or record.get("id") or "one")[:80]
    return UserError(
        f"{path}: the record of {named} has {other_form(record)} and no `conversations`, as have "
        f"{n} of the first {n_first}, so it is in another tool's form; write the instruction as "
        'LLaVA does, `conversations`: [{"from": "human", "value": ...}, {"from": "gpt", "value": '
        "...}], or, if it is none, call the field otherwise"
    )
