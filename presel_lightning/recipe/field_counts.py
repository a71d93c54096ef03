"""How many samples of each value of a field were selected, such as of a source or a label."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError

MOST = 20
"""Values that are counted one by one, the most frequent ones; the rest are counted together."""
OTHERS = "others"


def field_counts(pool: Pool, uids: np.ndarray, key: str) -> dict[str, Any]:
    """Count the values of a field over the pool, and over what was added to the reference split.

    Args:
        pool: with its reference split, which is counted apart.
        uids: what was selected.
        key: field of the records.

    Returns:
        `field`, and `values`: pool, reference and selected samples of each value; a record without the
        field counts as "null".
    """
    value = np.array([text_of(pool.record(row).get(key)) for row in range(len(pool))], dtype=object)
    selected = np.zeros(len(pool), dtype=bool)
    selected[pool.rows(uids)] = True
    frequent = [name for name, _ in Counter(value.tolist()).most_common(MOST)]
    value[~np.isin(value.astype(str), frequent)] = OTHERS
    values = {}
    for name in dict.fromkeys([*frequent, *value.tolist()]):
        own = value == name
        marks = {"pool": own, "reference": own & pool.reference, "selected": own & selected}
        values[name] = {part: int(mark.sum()) for part, mark in marks.items()}
    return {"field": key, "values": values}


def require_field(pool: Pool, key: str) -> None:
    """Check that a record of the pool has a field, before anything is computed.

    Raises:
        UserError: none has.
    """
    if all(pool.record(row).get(key) is None for row in range(len(pool))):
        raise UserError(
            f"data.count_key: no record of the pool has a value for {key!r}; correct it"
        )


def text_of(value: object) -> str:
    """Write a value as JSON has it, a text without quotes; at most 60 characters.

    >>> text_of(True), text_of(None), text_of("coco")
    ('true', 'null', 'coco')
    """
    named = {True: "true", False: "false", None: "null"}
    text = named[value] if isinstance(value, bool | None) else str(value)
    return text[:60]
