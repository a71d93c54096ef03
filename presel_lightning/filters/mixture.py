"""A mixture: exact shares of the sources, or kinds of sources, of a pool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from presel_lightning.errors import UserError
from presel_lightning.filters.columns import WrongType
from presel_lightning.filters.uids import scrambled
from presel_lightning.run.ranges import Count, Seed


@dataclass(frozen=True)
class Mixture:
    """How many rows of which sources, drawn among those that pass the rules.

    Each group gets its share of `size` by largest remainder, and gives the rows with the smallest
    scrambled uids: neither the order of the files nor the number of workers matters. Rows of no
    group are left out. Uids and groups of all rows that pass are held in memory, 34 bytes each.

    Source: DataComp-VLM (arXiv 2606.28551), which finds mixing decisive; its baseline is
    instruction 70, text 15, caption 10, documents 5, by samples.

    Args:
        shares: share of each group, by its name; they are divided by their sum.
        size: rows, over all groups.
        by: column that names the group of a row; the folder of DataComp-VLM's annotations is
            `source`.
        groups: values of the column that make up each group, `{group: [value, …]}`; without, the
            values are the groups.
        repeat: whether a group that has too few rows gives them several times, all equally often
            but for one.
        seed: of the draw.
    """

    shares: dict[str, float]
    size: Count
    by: str = "source"
    groups: dict[str, list[str]] | None = None
    repeat: bool = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Refuse shares that are none.

        Raises:
            UserError: a share is not positive, or a group has no values or shares one.
        """
        if not self.shares or not all(0 < share < np.inf for share in self.shares.values()):
            raise UserError("give `shares` of more than 0, such as {llava: 70, coco: 30}")
        if self.groups is None:
            return
        if lost := [name for name in self.shares if not self.groups.get(name)]:
            raise UserError(f"`groups` has no values for {', '.join(lost)}")
        values = [value for name in self.shares for value in self.groups[name]]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise UserError(f"`groups` has {', '.join(twice)} twice")

    def codes(self, column: pa.Array) -> np.ndarray:
        """Number of the group of each row in `shares`, (N,) int16; -1 for those of none.

        Raises:
            WrongType: the column holds no texts, and nothing that can be written as one.
        """
        try:
            coded = column.cast(pa.string()).dictionary_encode()
        except pa.ArrowException as error:
            raise WrongType((self.by,), column.type) from error
        group_of = {
            value: number
            for number, name in enumerate(self.shares)
            for value in (self.groups[name] if self.groups else [name])
        }
        table = [group_of.get(value, -1) for value in coded.dictionary.to_pylist()]
        numbers = coded.indices.fill_null(len(table)).to_numpy(zero_copy_only=False)
        found: np.ndarray = np.array([*table, -1], np.int16)[numbers]
        return found

    def quotas(self) -> dict[str, int]:
        """Rows of each group: largest remainder, of equal ones the first.

        >>> Mixture({"instruction": 70, "text": 15, "caption": 10, "documents": 5}, 10).quotas()
        {'instruction': 7, 'text': 2, 'caption': 1, 'documents': 0}
        """
        exact = np.array(list(self.shares.values())) / sum(self.shares.values()) * self.size
        counts = np.floor(exact + 1e-9).astype(np.int64)
        rest = np.argsort(counts - exact, kind="stable")[: self.size - int(counts.sum())]
        counts[rest] += 1
        return dict(zip(self.shares, counts.tolist(), strict=True))

    def counts(self, codes: np.ndarray, uids: np.ndarray) -> np.ndarray:
        """How often each row is drawn, (N,) int64.

        Raises:
            UserError: a group has too few rows.
        """
        counts = np.zeros(len(codes), np.int64)
        for number, (name, wanted) in enumerate(self.quotas().items()):
            rows = np.flatnonzero(codes == number)
            if wanted > len(rows) and not (self.repeat and len(rows)):
                raise UserError(
                    f"mixture: {name} has {len(rows)} rows that pass, its share is {wanted}; lower "
                    "`size` or the share, or set `repeat: true`"
                )
            if wanted:
                times, left = divmod(wanted, len(rows))
                own = uids[rows]
                order = np.lexsort((own["f1"], own["f0"], scrambled(own, self.seed)))
                counts[rows] = times
                counts[rows[order[:left]]] += 1
        return counts
