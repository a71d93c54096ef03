"""Selection from a list of samples in a file."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.records import Selection, own_fields
from presel_lightning.selectors.base import Selector, make_selection
from presel_lightning.signals import Signals


class FromFile(Selector):
    """Select the samples that a file lists; their number must not exceed the budget.

    Training weights are read too, where the file has them; of a sample that is listed twice the
    first entry counts.

    Args:
        path: a text file with one uid per line; or CSV with the column `uid` and, optionally,
            `weight`; or LLaVA JSON, such as a `selected.json` or the selection of another tool:
            records are matched by `presel.uid`, else by a `uid` that the pool knows, else by id and
            image, and `presel.weight` is the weight; or a `manifest.json` of another run, whose
            samples are matched by a uid that the pool knows, else by id and image.
    """

    takes_copies: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def fingerprint(self) -> object:
        """Return the listed names, and the weights if some differ from 1."""
        names, weights = read_list(self.path)
        return names if set(weights) <= {1.0} else [names, weights]

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Select every listed sample outside the reference split, with its weight.

        Raises:
            UserError: no such file, an unknown uid, or more samples than the budget.
        """
        names, weights = read_list(self.path)
        rows, first = np.unique(pool.rows(name_uids(names, pool, self.path)), return_index=True)
        free = ~pool.reference[rows]
        rows, first = rows[free], first[free]
        if len(rows) > budget:
            reference = int(pool.reference.sum())
            beside = f" beside the reference split of {reference}" if reference else ""
            raise UserError(
                f"selector.init_args.path {self.path} lists {len(rows)} samples{beside}, but the "
                f"budget is {budget}; set data.budget to {len(rows) + reference}"
            )
        score = np.zeros(len(pool))
        score[rows] = 1.0
        selection = make_selection(pool, rows, len(rows), score, f"listed in {self.path.name}")
        return replace(selection, weights=np.array(weights)[first])


FORMS = (
    "one uid a line, CSV with the column `uid`, LLaVA JSON such as a selected.json, or the "
    "manifest.json of a run"
)

Name = str | tuple[Any, ...]
"""A uid; or id and image of a record (of several images a tuple), and a uid that may be another tool's."""


def read_list(path: Path) -> tuple[list[Name], list[float]]:
    """Read the names and weights of a LLaVA JSON file, a table or a plain list.

    Raises:
        UserError: there is no such file, or a weight is not a number.
    """
    if not path.is_file():
        raise UserError(f"selector.init_args.path {path}: no such file; give {FORMS}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = {"[": read_records, "{": read_manifest}.get(text.lstrip()[:1], read_table)
        entries = list(reader(text))
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise UserError(f"selector.init_args.path {path}: {error}; give {FORMS}") from error
    try:
        return [name for name, _ in entries], [float(weight) for _, weight in entries]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"selector.init_args.path {path}: a weight is not a number: {error}; write a "
            "number of 0 or more, or leave it empty"
        ) from None


def read_records(text: str) -> Iterator[tuple[Name, Any]]:
    """Yield name and weight of each record of LLaVA JSON."""
    for record in json.loads(text):
        ours = own_fields(record)
        image = record.get("image", "")
        plain = str(record.get("id", "")), tuple(image) if isinstance(image, list) else image
        name: Name = (*plain, str(record["uid"])) if record.get("uid") is not None else plain
        yield ours.get("uid", name), ours.get("weight", 1.0)


def read_manifest(text: str) -> Iterator[tuple[Name, Any]]:
    """Yield name and weight of each sample of a `manifest.json`.

    Raises:
        ValueError: it is another JSON object.
    """
    found = json.loads(text)
    if "samples" not in found:
        raise ValueError("a JSON object without `samples` is no manifest")
    for sample in found["samples"]:
        name = (str(sample["id"]), sample["image"], str(sample["uid"]))
        yield name, sample.get("weight", 1.0)


def read_table(text: str) -> Iterator[tuple[Name, Any]]:
    """Yield uid and weight of each row of a CSV table, or of each word of a plain list."""
    columns = [column.strip() for column in text.partition("\n")[0].split(",")]
    if "uid" not in columns:
        yield from ((uid, 1.0) for uid in text.split())
        return
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    yield from (((row["uid"] or "").strip(), row.get("weight") or 1.0) for row in rows)


def name_uids(names: list[Name], pool: Pool, path: Path) -> list[str]:
    """Resolve names to uids.

    Raises:
        UserError: id and image match no sample of the pool, or several.
    """
    by_record: dict[Name, list[str]] = defaultdict(list)
    for sample_id, image, uid in zip(pool.id, pool.image, pool.uid, strict=True):
        by_record[sample_id, pool.several.get(uid, image)].append(uid)
    uids, known = [], set(pool.uid)
    for name in names:
        if isinstance(name, str):
            found = [name]
        elif name[-1] in known:
            found = [name[-1]]
        else:
            found = by_record.get(name[:2], [])
        if len(found) != 1:
            raise UserError(
                f"selector.init_args.path {path}: {len(found)} samples of the pool have id and "
                f"image {name}; give each record its `uid`, as in selected.json"
            )
        uids.append(found[0])
    return uids
