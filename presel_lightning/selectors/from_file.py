"""Train on a list that somebody else made."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector, make_selection
from presel_lightning.signals import Signals


class FromFile(Selector):
    """Take the samples that a file names; the budget is then what the file holds.

    Args:
        path: a text file with a uid a line; or LLaVA JSON, such as a `selected.json` or what
            another tool has chosen: records are told by `uid`, else by id and image.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def fingerprint(self) -> object:
        """What the file names."""
        return read_names(self.path)

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Take every uid of the file that is not in the reference split.

        Raises:
            UserError: no such file, an unknown uid, or more samples than the budget.
        """
        rows = pool.rows(name_uids(read_names(self.path), pool, self.path))
        rows = np.unique(rows[~pool.reference[rows]])
        if len(rows) > budget:
            drawn = int(pool.reference.sum())
            beside = f" beside the reference split of {drawn}" if drawn else ""
            raise UserError(
                f"selector.init_args.path {self.path} names {len(rows)} samples{beside}, but only "
                f"{budget} are asked for; set data.budget to {len(rows) + drawn}"
            )
        score = np.zeros(len(pool))
        score[rows] = 1.0
        return make_selection(pool, rows, len(rows), score, f"named in {self.path.name}")


Name = str | tuple[str, str]
"""A uid, or id and image of a record."""


def read_names(path: Path) -> list[Name]:
    """Read what a LLaVA JSON file or a plain list names."""
    if not path.is_file():
        raise UserError(f"selector.init_args.path {path}: no such file")
    text = path.read_text(encoding="utf-8")
    if not text.lstrip().startswith("["):
        return list(text.split())
    return [
        record["uid"] if "uid" in record else (str(record.get("id", "")), record.get("image", ""))
        for record in json.loads(text)
    ]


def name_uids(names: list[Name], pool: Pool, path: Path) -> list[str]:
    """Turn names into uids.

    Raises:
        UserError: id and image belong to no sample of the pool, or to several.
    """
    by_record: dict[Name, list[str]] = defaultdict(list)
    for sample_id, image, uid in zip(pool.id, pool.image, pool.uid, strict=True):
        by_record[sample_id, image].append(uid)
    uids = []
    for name in names:
        found = [name] if isinstance(name, str) else by_record[name]
        if len(found) != 1:
            raise UserError(
                f"selector.init_args.path {path}: {len(found)} samples of the pool have id and "
                f"image {name}; give each record its `uid`, as in selected.json"
            )
        uids.append(found[0])
    return uids
