"""Very many faulty records through every form of annotations: nothing stops, everything adds up.

    python tests/bench/fuzz_campaign.py [--records 100000] [--seed 0] [--out fuzz.json]

Three in ten records are changed: values of other types and sizes, odd texts, lost and foreign keys,
deep nesting. Each goes through a JSON list, JSON lines, and where the form can hold it a table,
Parquet and a tar. A second time lines, rows and members are broken byte by byte. It is looked at
that no error ends a pool, that every record is in the pool, text-only or one listed problem under
its own number, that no fault reaches a record that was not touched, and that every form gives the
same pool and the same selection as the same records in a JSON list.
"""

import argparse
import csv
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from presel_lightning.data import Pool, build_pool, load_pool, source
from presel_lightning.data.record_file import RecordReader, records_path
from presel_lightning.selectors import Random
from presel_lightning.signals import Signals
from tests.bench.common import Row, keep
from tests.bench.forms import (
    break_members,
    broken_line,
    columns_of,
    is_image_kept,
    rows_of,
    table_row,
    with_image,
    write_lines,
    write_list,
    write_parquet,
    write_table,
    write_tar,
)
from tests.bench.mutations import IMAGES, Made, made

BLOCK = 5000
"""Records of a pool; a campaign makes as many pools as it needs."""
BROKEN = 0.1
"""Share of lines, rows and members that are broken byte by byte."""
POOL, TEXT_ONLY = "in the pool", "text-only"


@dataclass
class Read:
    """What became of the records of one file.

    Attributes:
        outcome: of each record, by its number in the file: in the pool, text-only, or the problem.
        selected: uids that a selection takes.
    """

    outcome: dict[int, str]
    selected: list[str]


@dataclass
class Campaign:
    """One campaign.

    Attributes:
        folder: works here.
        seed: of all that is drawn.
        tally: records by form, and what became of them.
        seconds: that reading took, by form.
    """

    folder: Path
    seed: int
    tally: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the images."""
        (self.folder / "images").mkdir()
        rng = np.random.default_rng(0)
        for number in range(IMAGES):
            noise = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(noise).save(self.folder / "images" / f"{number}.png")
        self.images = [(self.folder / "images" / f"{n}.png").read_bytes() for n in range(IMAGES)]

    def read(
        self,
        form: str,
        path: Path,
        numbers: Sequence[int],
        merged: Collection[int] = (),
        **options: Any,
    ) -> Read:
        """Make a pool of a file, see that its counts add up, and select from it.

        Args:
            form: what to count it as.
            path: of the file.
            numbers: of its records in the file, as `problems.csv` has them.
            merged: those that may count as part of the one before, as none tells what they were.
            options: see `presel_lightning.data.source`.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            out, start = Path(name), time.perf_counter()
            where = source(str(path), unpacked=out / "unpacked", **options)
            counts = build_pool(where, out)
            pool = load_pool(out, where.image_root)
            took = time.perf_counter() - start
            self.seconds[form] = self.seconds.get(form, 0.0) + took
            found = numbered(out, pool)
            numbers = [number for number in numbers if number in found or number not in merged]
            outcome = dict.fromkeys(numbers, TEXT_ONLY) | found
            selected = select(pool, out)
        tally = Counter(outcome.values())
        assert set(outcome) == set(numbers), f"{form}: numbers of no record"
        assert len(pool) == counts.pool == tally[POOL], form
        assert counts.text_only == tally[TEXT_ONLY], form
        assert counts.problems == len(numbers) - counts.pool - counts.text_only, form
        assert counts.by_problem == {k: n for k, n in tally.items() if k not in (POOL, TEXT_ONLY)}
        tally["without instruction"] = int((~pool.has_instruction).sum())
        self.tally[form] = self.tally.get(form, Counter()) + tally
        return Read(outcome, selected)


def numbered(out: Path, pool: Pool) -> dict[int, str]:
    """What became of each record that is not text-only, by its number in the file."""
    found: dict[int, str] = {}
    with (out / "problems.csv").open(encoding="utf-8", newline="") as handle:
        limit = csv.field_size_limit(1 << 30)
        for row in csv.DictReader(handle):
            assert row["file"] and int(row["record"].split()[0]) not in found, row
            found[int(row["record"].split()[0])] = row["problem"]
        csv.field_size_limit(limit)
    with RecordReader(records_path(out)) as records:
        for row in np.load(out / "work" / "order.npy").tolist():
            number = int(str(records.value(row, "number")).split()[0])
            assert number not in found, number
            found[number] = POOL
    return found


def select(pool: Pool, out: Path) -> list[str]:
    """Uids of a selection beside a reference split."""
    with_reference = pool.with_reference(pool.uid[::20])
    chosen = Random().select(with_reference, Signals(out), len(pool) // 10, seed=0)
    return sorted(chosen.uids.tolist())


class Block:
    """Some records of a campaign, in every form.

    Args:
        campaign: that they belong to.
        first: number of the first record.
        n: how many.
    """

    def __init__(self, campaign: Campaign, first: int, n: int) -> None:
        self.campaign = campaign
        self.rng = random.Random(f"{campaign.seed} {first}")
        self.records = [made(first + number, campaign.seed) for number in range(n)]
        self.file = campaign.folder / "records"

    def run(self) -> None:
        """Every form, as it is written and broken byte by byte."""
        folder = self.campaign.folder
        texts = [one.text for one in self.records]
        whole = self._read("JSON", "list.json", write_list, texts)
        self._untouched("JSON", whole, self.records)
        lines = self._read("JSON lines", "lines.jsonl", write_lines, texts)
        for number, one in enumerate(self.records, start=1):
            here, there = lines.outcome[number], whole.outcome[number]
            assert here == there, f"JSON lines: {here}; in a JSON list {there}: {one}"
        assert lines.selected == whole.selected, "JSON lines: another selection"
        self.table(folder / "table.csv")
        self.tar(folder / "shard.tar")
        self.parquet(folder / "rows.parquet")
        self.broken_lines(folder / "lines.jsonl", texts)

    def _read(self, form: str, name: str, write: Any, texts: Sequence[str], root: str = "") -> Read:
        path = self.campaign.folder / name
        numbers = write(path, texts)
        return self.campaign.read(
            form, path, numbers, image_root=str(self.campaign.folder / root), task_key="task"
        )

    def _untouched(
        self, form: str, read: Read, records: Sequence[Made], but: Sequence[int] = ()
    ) -> None:
        """Whether no record has a problem that nobody touched."""
        for one, (number, outcome) in zip(records, sorted(read.outcome.items()), strict=True):
            fine = one.touched or one.number in but or outcome in (POOL, TEXT_ONLY)
            assert fine, f"{form}: record {number} is sound, and a problem: {outcome}: {one}"

    def _as_list(self, form: str, read: Read, texts: Sequence[str], root: str = "") -> None:
        """Whether a form gives what the same records give as a JSON list."""
        twin = self._read(f"JSON beside {form}", "twin.json", write_list, texts, root)
        became = [[each.outcome[n] for n in sorted(each.outcome)] for each in (read, twin)]
        for text, here, there in zip(texts, *became, strict=True):
            same = (here in (POOL, TEXT_ONLY)) == (there in (POOL, TEXT_ONLY))
            assert same, f"{form}: {here}; in a JSON list {there}: {text[:2000]}"
        assert read.selected == twin.selected, f"{form}: another selection than of a JSON list"

    def _picked(self, n: int) -> set[int]:
        return {number for number in range(n) if self.rng.random() < BROKEN}

    def broken_lines(self, path: Path, texts: Sequence[str]) -> None:
        """JSON lines, some of them broken."""
        picked = self._picked(len(texts))
        lines = [
            broken_line(self.rng, text) if number in picked else text.encode()
            for number, text in enumerate(texts)
        ]
        form = "JSON lines, broken"
        read = self.campaign.read(form, path, write_lines(path, lines))
        self._untouched(form, read, self.records, [self.records[n].number for n in picked])

    def table(self, path: Path) -> None:
        """A table of the records that one can hold, whole and with broken rows."""
        rows: list[tuple[Made, list[list[str]]]] = []
        for one in self.records:
            found = rows_of(one)
            # rows of one name that follow each other are one conversation
            if found and not (rows and rows[-1][1][0][:3] == found[0][:3]):
                rows.append((one, found))
        held = [one for one, _ in rows]
        texts = [table_row(row) for _, row in rows]
        read = self.campaign.read("table", path, write_table(path, [t.encode() for t in texts]))
        self._as_list("table", read, [one.text for one in held])
        picked = self._picked(len(held))
        lines = [
            broken_line(self.rng, text) + b"\n" if number in picked else text.encode()
            for number, text in enumerate(texts)
        ]
        form, numbers = "table, broken", write_table(path, lines)
        behind = [number for number in picked if number - 1 in picked]
        merged = {numbers[number] for number in behind}  # an open quote, then a line without cells
        read = self.campaign.read(form, path, numbers, merged)
        rest = [n for n, line in enumerate(numbers) if line in read.outcome]
        some = [held[n] for n in rest]
        self._untouched(form, read, some, [held[n].number for n in picked])

    def tar(self, path: Path) -> None:
        """A tar of the records that one can hold, whole and with broken members."""
        held = [one for one in self.records if is_image_kept(one)]
        read = self.campaign.read("tar", path, write_tar(path, held, self.campaign.images))
        names = [f"shard/shard/{one.number:07d}.png" for one in held]
        texts = [with_image(one, name) for one, name in zip(held, names, strict=True)]
        self._link(held, names)
        self._as_list("tar", read, texts, "packed")
        picked = self._picked(len(held))
        break_members(path, picked, self.rng)
        form = "tar, broken"
        read = self.campaign.read(form, path, range(1, len(held) + 1))
        self._untouched(form, read, held, [held[n].number for n in picked])

    def parquet(self, path: Path) -> None:
        """A dataset of the records that one can hold, whole and with broken rows."""
        pairs = [(one, row) for one in self.records if (row := columns_of(one)) is not None]
        held = [one for one, _ in pairs]
        rows = [{**row, "number": one.number} for one, row in pairs]
        images = self.campaign.images
        read = self.campaign.read("Parquet", path, write_parquet(path, rows, images, set(), 0))
        names = [f"rows/{n // 1000:05d}/{n:08d}.png" for n in range(len(held))]
        texts = [
            json.dumps({"image": name} | {k: v for k, v in row.items() if k != "number"})
            for row, name in zip(rows, names, strict=True)
        ]
        self._link(held, names)
        self._as_list("Parquet", read, texts, "packed")
        picked = self._picked(len(held))
        numbers = write_parquet(path, rows, images, picked, self.campaign.seed)
        form = "Parquet, broken"
        read = self.campaign.read(form, path, numbers)
        self._untouched(form, read, held, [held[n].number for n in picked])

    def _link(self, held: Sequence[Made], names: Sequence[str]) -> None:
        """The images of a packed pool under the names that they are unpacked to."""
        for one, name in zip(held, names, strict=True):
            place = self.campaign.folder / "packed" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            os.link(self.campaign.folder / one.image, place)


def run(folder: Path, records: int, seed: int) -> list[Row]:
    """A campaign; a row of figures for every form."""
    campaign = Campaign(folder, seed)
    for first in range(0, records, BLOCK):
        Block(campaign, first, min(BLOCK, records - first)).run()
        print(f"  {min(records, first + BLOCK)} of {records} records", flush=True)
    rows = []
    for form, tally in campaign.tally.items():
        counted = {name: n for name, n in tally.items() if name != "without instruction"}
        total = sum(counted.values())
        kinds = {name: n for name, n in counted.items() if name not in (POOL, TEXT_ONLY)}
        rows.append(
            {
                "what": "fuzz campaign",
                "data": form,
                "records": total,
                "pool": tally[POOL],
                "without_instruction": tally["without instruction"],
                "text_only": tally[TEXT_ONLY],
                "repeated": tally["repeated_record"],
                "problems": sum(kinds.values()),
                "kinds": len(kinds),
                "records_a_second": round(total / campaign.seconds[form]),
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run a campaign, print its rows, and put them into the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz.json"))
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = run(Path(folder), given.records, given.seed)
    for row in rows:
        keep(given.out, row)
    return rows


if __name__ == "__main__":
    main()
