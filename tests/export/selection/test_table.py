"""The table and DataComp's array: every selected sample, annotated or not."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from presel_lightning.export.selection.table import COLUMNS


@pytest.mark.parametrize("name", ["finished", "unlabelled"])
def test_csv_export_has_one_row_per_sample(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run: Path = request.getfixturevalue(name)
    out = tmp_path / "out"
    assert main(["export", "--run", str(run), "--to", "csv", "--path", str(out)]) == 0
    with (out / "selection.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == COLUMNS
    chosen = pq.read_table(
        run / "selection" / "selection.parquet", filters=[("selected", "==", True)]
    ).to_pylist()
    pool = {row["uid"]: row for row in pq.read_table(run / "pool.parquet").to_pylist()}
    assert {row["uid"] for row in rows} == {each["uid"] for each in chosen}
    facts = {each["uid"]: each for each in chosen}
    for row in rows:
        known, fact = pool[row["uid"]], facts[row["uid"]]
        assert row["image"] == known["image"] and Path(row["path"]).is_file()
        assert (row["id"], row["task"]) == (known["id"], known["task"])
        assert int(row["n_turns"]) == known["n_turns"]
        assert (row["reason"], int(row["cluster"])) == (fact["reason"], fact["cluster"])
        assert row["score"] == ("" if fact["score"] is None else str(fact["score"]))
    assert {row["n_turns"] == "0" for row in rows} == ({False} | {name == "unlabelled"})


def test_npy_export_has_sorted_datacomp_uids(unlabelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["export", "--run", str(unlabelled), "--to", "npy", "--path", str(out)]) == 0
    uids = np.load(out / "uids.npy")
    assert uids.dtype == np.dtype("u8,u8") and np.array_equal(uids, np.sort(uids))
    table = pq.read_table(
        unlabelled / "selection" / "selection.parquet", filters=[("selected", "==", True)]
    )
    # both halves, big-endian: numbers are in the order of the hex digits
    assert [f"{high:016x}{low:016x}" for high, low in uids.tolist()] == sorted(
        table["uid"].to_pylist()
    )
