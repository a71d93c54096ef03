"""The lists of images without an instruction, and what a person has filled in already."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from presel_lightning.annotators import Request
from presel_lightning.errors import UserError
from presel_lightning.run.files import replacing, write_json, write_text

REQUESTS = ("requests.jsonl", "requests.csv", "prompts.json")
"""Files of `OUT/selection` that list the images without an instruction."""
COLUMNS = ("task", "image", "file", "question", "answer", "uid")
"""Columns of `requests.csv`."""
Row = dict[str, str]


def write_requests(folder: Path, requests: Sequence[Request], answered: Collection[str]) -> None:
    """Write what is asked for: for programs, for a spreadsheet, and the prompt of each task.

    `requests.csv` is sorted by folder; the annotator `FromFile` reads it back once `question` and
    `answer` are filled in, and passes over the rows where they are not. What was filled in since
    the table was written is kept: in its rows, or at the end where it is not asked for any more.

    Args:
        folder: `OUT/selection`.
        requests: images without an instruction.
        answered: uids of the samples with an instruction, whose rows are not needed any more.

    Raises:
        UserError: the table that lies there is none any more.
    """
    lines, table, prompts = (folder / name for name in REQUESTS)
    filled = filled_rows(table)
    records = [json.dumps(request.record(), ensure_ascii=False) for request in requests]
    write_text(lines, "".join(f"{record}\n" for record in records))
    write_json(
        prompts, dict(sorted({request.task: request.prompt for request in requests}.items()))
    )
    with replacing(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(COLUMNS)
        for each in sorted(requests, key=lambda r: (Path(r.image).parent, r.image, r.uid)):
            for row in filled.pop(each.uid, [{}]):
                words = row.get("question", ""), row.get("answer", "")
                rows.writerow([each.task, each.image, each.path, *words, each.uid])
        for uid, others in filled.items():
            if uid not in answered:
                rows.writerows([row.get(name) or "" for name in COLUMNS] for row in others)


def filled_rows(table: Path) -> dict[str, list[Row]]:
    """Read the rows of `requests.csv` in which something is filled in, by uid; see `read_rows`."""
    found: dict[str, list[Row]] = {}
    for row in read_rows(table):
        if row["question"] or row["answer"]:
            found.setdefault(row["uid"], []).append(row)
    return found


def read_rows(table: Path) -> Iterator[Row]:
    """Read the rows of `requests.csv`; none where there is no such file.

    Raises:
        UserError: it is no CSV in UTF-8, or lacks a column.
    """
    if not table.is_file():
        return
    cure = (
        "this run writes it again: move it away, or save it as CSV in UTF-8 with the columns it had"
    )
    try:
        with table.open(encoding="utf-8-sig", newline="") as handle:
            heading = handle.readline()
            handle.seek(0)
            # spreadsheets of some locales write semicolons
            rows = csv.DictReader(handle, delimiter=max(",;\t", key=heading.count))
            if missing := {"question", "answer", "uid"} - set(rows.fieldnames or ()):
                raise UserError(f"{table}: no column {', '.join(sorted(missing))}; {cure}")
            yield from rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: cannot be read ({error}); {cure}") from error
