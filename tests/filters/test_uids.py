"""Uids between hex, arrays and files; sets of them against `collections.Counter`."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.errors import UserError
from presel_lightning.filters.uid_files import open_uids, writing_uids
from presel_lightning.filters.uid_sets import Runs, parse_set, write_set
from presel_lightning.filters.uids import (
    UID,
    as_hex,
    multiplicity,
    order_of,
    parse_uids,
    positions,
    scrambled,
)

LAST = 2**64 - 1
HALVES = st.one_of(st.sampled_from([0, 1, 2**63, LAST]), st.integers(0, 5), st.integers(0, LAST))
UIDS = st.lists(st.tuples(HALVES, HALVES), max_size=60)


def array(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, UID)


@given(UIDS)
def test_hex_is_read_back(pairs: list[tuple[int, int]]) -> None:
    texts = as_hex(array(pairs))
    assert all(len(text) == 32 and text == text.lower() for text in texts)
    uids, valid = parse_uids(pa.array(texts, pa.string()))
    assert valid.all() and uids.dtype == UID and uids.tolist() == pairs


def test_parse_uids_marks_what_is_no_uid() -> None:
    good = "00000000000000ff" + "f" * 16
    texts = ["", None, good[:-1], good + "0", good[:-1] + "g", good.upper(), good, good[:-1] + "é"]
    uids, valid = parse_uids(pa.array(["x", *texts])[1:])
    assert valid.tolist() == [False] * 5 + [True, True, False]
    assert uids[[5, 6]].tolist() == [(255, LAST)] * 2


@given(UIDS)
def test_order_is_that_of_python(pairs: list[tuple[int, int]]) -> None:
    uids = array(pairs)
    assert uids[order_of(uids)].tolist() == sorted(pairs)


@given(UIDS, UIDS)
def test_positions_are_those_of_searchsorted(
    pairs: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    table, uids = array(sorted(pairs)), array(asked + pairs)
    assert positions(table, uids).tolist() == np.searchsorted(table, uids).tolist()
    counts = Counter(pairs)
    assert multiplicity(table, uids).tolist() == [counts[uid] for uid in asked + pairs]


def test_scrambled_uids_have_no_order_and_no_collisions() -> None:
    uids = array([(a, b) for a in range(100) for b in range(100)])
    mixed = scrambled(uids)
    assert len(set(mixed.tolist())) == 10_000
    assert abs(float((mixed >> np.uint64(63)).mean()) - 0.5) < 0.02
    assert (scrambled(uids, 1) != mixed).all()


@given(UIDS)
def test_file_has_the_bytes_of_np_save(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]]
) -> None:
    path, saved = tmp_path_factory.mktemp("uids") / "a.npy", io.BytesIO()
    with writing_uids(path) as append:
        append(array(pairs[:3]))
        append(array(pairs[3:]))
    np.save(saved, array(pairs))
    assert path.read_bytes() == saved.getvalue()
    assert open_uids(path).tolist() == pairs


def test_rows_without_a_header_are_read_too(tmp_path: Path) -> None:
    rows = array([(1, 2), (3, 4)])
    (tmp_path / "raw").write_bytes(rows.tobytes())
    assert open_uids(tmp_path / "raw").tolist() == rows.tolist()
    (tmp_path / "raw").write_bytes(rows.tobytes()[:-1])
    with pytest.raises(UserError, match="31 bytes"):
        open_uids(tmp_path / "raw")
    np.save(tmp_path / "other.npy", np.arange(3))
    with pytest.raises(UserError, match="int64; give a 1-D array of dtype u8,u8"):
        open_uids(tmp_path / "other.npy")


@given(UIDS, UIDS, UIDS, st.integers(1, 5))
def test_sets_are_those_of_counter_whatever_the_size_of_a_range(
    tmp_path_factory: pytest.TempPathFactory,
    a: list[tuple[int, int]],
    b: list[tuple[int, int]],
    c: list[tuple[int, int]],
    rows: int,
) -> None:
    """`Counter` unites by the larger count and intersects by the smaller one."""
    folder = tmp_path_factory.mktemp("sets")
    for name, pairs in zip("abc", (a, b, c), strict=True):
        np.save(folder / f"{name}.npy", array(pairs))  # in any order
    names = [folder / f"{name}.npy" for name in "abc"]
    uids = parse_set("{} | {} & ({})".format(*names), folder / "sorted")
    total = write_set(uids, folder / "out.npy", rows)
    expected = sorted((Counter(a) | (Counter(b) & Counter(c))).elements())
    assert np.load(folder / "out.npy").tolist() == expected and total == len(expected)


@given(st.lists(UIDS, max_size=5), st.integers(1, 5))
def test_runs_are_merged_with_every_copy(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[tuple[int, int]]], rows: int
) -> None:
    path = tmp_path_factory.mktemp("runs") / "out.npy"
    write_set(Runs([array(sorted(part)) for part in parts]), path, rows)
    assert np.load(path).tolist() == sorted(pair for part in parts for pair in part)
