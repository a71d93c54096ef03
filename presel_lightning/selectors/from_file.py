"""Train on a list that somebody else made."""

from __future__ import annotations

import json
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
        path: a `selected.json` (LLaVA JSON whose records carry `uid`), or a text file with a uid
            a line.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def fingerprint(self) -> object:
        """The uids that the file names."""
        return read_uids(self.path)

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Take every uid of the file that is not in the reference split.

        Raises:
            UserError: no such file, an unknown uid, or more samples than the budget.
        """
        rows = pool.rows(read_uids(self.path))
        rows = np.unique(rows[~pool.reference[rows]])
        if len(rows) > budget:
            raise UserError(
                f"selector.init_args.path {self.path} names {len(rows)} samples, but only {budget} "
                f"are asked for; set data.budget to {len(rows)}"
            )
        score = np.zeros(len(pool))
        score[rows] = 1.0
        return make_selection(pool, rows, len(rows), score, f"named in {self.path.name}")


def read_uids(path: Path) -> list[str]:
    """Read the uids of a LLaVA JSON file or of a plain list."""
    if not path.is_file():
        raise UserError(f"selector.init_args.path {path}: no such file")
    text = path.read_text(encoding="utf-8")
    if not text.lstrip().startswith("["):
        return text.split()
    records = json.loads(text)
    if not all(isinstance(record, dict) and "uid" in record for record in records):
        raise UserError(f"selector.init_args.path {path}: every record needs a `uid`")
    return [record["uid"] for record in records]
