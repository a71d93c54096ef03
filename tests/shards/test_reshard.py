"""`reshard` through the command line, read back by webdataset."""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.cli.main import main
from presel_lightning.shards import plan
from tests.shards.tars import Files, pool, sample, subset, write_tar


def reshard(folder: Path, uids: Path, out: Path, *more: str) -> int:
    words = ["--input", str(folder), "--subset", str(uids), "--output", str(out)]
    return main(["reshard", *words, *more])


def read(out: Path) -> list[tuple[str, Files]]:
    """Samples of all shards as webdataset sees them, the JSON still as bytes."""
    urls = [str(path) for path in sorted(out.glob("*.tar"))]
    found = []
    for each in webdataset.WebDataset(urls, shardshuffle=False) if urls else []:
        found.append((each["__key__"], {k: v for k, v in each.items() if not k.startswith("__")}))
    return found


def tree(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_copies_have_keys_of_their_own_and_the_bytes_of_the_pool(tmp_path: Path) -> None:
    samples = pool(tmp_path / "in")
    names = list(samples)
    asked = {names[3]: 1, names[0]: 3, names[17]: 2, names[29]: 1}
    wanted = [name for name, n in asked.items() for _ in range(n)]
    uids = subset(tmp_path / "s.npy", [*wanted, "f" * 32])
    assert reshard(tmp_path / "in", uids, tmp_path / "out", "--shard_size", "4") == 0
    expected = [(f"{n}-{j}", samples[n][1]) for n in names for j in range(asked.get(n, 0))]
    assert read(tmp_path / "out") == expected
    assert json.loads((tmp_path / "out" / "sizes.json").read_text()) == {
        "00000000.tar": 4,
        "00000001.tar": 3,
    }
    assert json.loads((tmp_path / "out" / "00000001_stats.json").read_text()) == {"successes": 3}
    assert (tmp_path / "out" / "sample_ids.npy").read_bytes() == uids.read_bytes()
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert (meta["processed_count"], meta["output_count"], meta["output_shard_count"]) == (30, 7, 2)
    assert meta["output_shard_format"] == "{:08d}.tar"
    with tarfile.open(tmp_path / "out" / "00000000.tar") as tar:
        infos = tar.getmembers()
    assert [i.name.split(".")[1] for i in infos[:3]] == ["jpg", "json", "txt"]
    assert {(i.uname, i.gname, i.mode, i.mtime) for i in infos} == {
        ("bigdata", "bigdata", 0o444, 0)
    }
    assert not (tmp_path / "out" / ".work").exists()


def problems(out: Path) -> list[tuple[str, str, str]]:
    with (out / "problems.csv").open(newline="") as rows:
        return [(Path(r["file"]).name, r["problem"], r["detail"]) for r in csv.DictReader(rows)]


def test_faults_and_repeated_uids_are_listed(tmp_path: Path) -> None:
    samples = pool(tmp_path / "in")
    names = list(samples)
    odd = [
        sample(None, "a0"),
        sample("xyz", "a1"),
        ("a2", {"jpg": b"no json"}),
        ("a3", {"jpg": b"x", "json": b"{"}),
        (
            "a4",
            {"jpg": b"x", "json": json.dumps({"m": {"uid": names[4]}, "uid": names[1]}).encode()},
        ),
        ("a5", {"JPG": b"upper", "json": json.dumps({"uid": "c" * 32}).encode()}),
        sample(names[2], "a6"),
        sample(names[2], "a7"),
    ]
    write_tar(tmp_path / "in" / "00000001.tar", odd)  # between the first and the second
    whole = (tmp_path / "in" / "00000006.tar").read_bytes()
    (tmp_path / "in" / "00000006.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "00000009.tar").write_bytes(b"")
    (tmp_path / "in" / "00000010.tar").write_bytes(b"no tar at all" * 100)
    uids = subset(tmp_path / "s.npy", [*names, "c" * 32])
    assert reshard(tmp_path / "in", uids, tmp_path / "out") == 0
    found = read(tmp_path / "out")
    whole_ones = len(found) - 21
    assert [key for key, _ in found[:11]] == [*(f"{n}-0" for n in names[:10]), f"{'c' * 32}-0"]
    assert [key for key, _ in found[11:]] == [f"{n}-0" for n in names[10 : 20 + whole_ones]]
    assert 0 < whole_ones < 10 and found[10][1]["jpg"] == b"upper"
    listed = problems(tmp_path / "out")
    assert [(file, problem) for file, problem, _ in listed] == [
        ("00000001.tar", "no_uid"),
        ("00000001.tar", "malformed_uid"),
        ("00000001.tar", "no_uid"),
        ("00000001.tar", "no_uid"),
        ("00000006.tar", "corrupt_tar"),
        ("00000009.tar", "corrupt_tar"),
        ("00000010.tar", "corrupt_tar"),
        *[("00000001.tar", "repeated_uid")] * 3,
    ]
    assert f"behind {whole_ones} samples" in listed[4][2]
    repeated = sorted(detail for *_, detail in listed[-3:])
    first = "is in 00000000.tar before"
    assert repeated == sorted([f"{names[1]} {first}", *[f"{names[2]} {first}"] * 2])
    out = tmp_path / "stopped"
    assert reshard(tmp_path / "in", uids, out, "--faults", "stop") == 2


def test_shuffle_is_a_permutation_of_its_own(tmp_path: Path) -> None:
    samples = pool(tmp_path / "in")
    uids = subset(tmp_path / "s.npy", [*samples, *list(samples)[:5]])
    for name, seed in [("a", "1"), ("b", "1"), ("c", "2")]:
        words = ["--shuffle", seed, "--shard_size", "7"]
        assert reshard(tmp_path / "in", uids, tmp_path / name, *words) == 0
    plain = read(tmp_path / "a")
    assert plain == read(tmp_path / "b") != read(tmp_path / "c")
    assert sorted(key for key, _ in plain) == sorted(
        [f"{n}-0" for n in samples] + [f"{n}-1" for n in list(samples)[:5]]
    )
    assert all(files == samples[key[:-2]][1] for key, files in plain)


def test_another_reshard_into_the_same_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = pool(tmp_path / "in")
    uids = subset(tmp_path / "s.npy", list(samples)[:4])
    assert reshard(tmp_path / "in", uids, tmp_path / "out") == 0
    before = tree(tmp_path / "out")
    assert reshard(tmp_path / "in", uids, tmp_path / "out") == 0  # is there already
    assert reshard(tmp_path / "in", uids, tmp_path / "out", "--shard_size", "2") == 2
    assert "give a new folder" in capsys.readouterr().err and tree(tmp_path / "out") == before
    np.save(tmp_path / "t.npy", np.load(uids)[::-1])
    assert reshard(tmp_path / "in", tmp_path / "t.npy", tmp_path / "o") == 2
    assert "not sorted" in capsys.readouterr().err
    assert reshard(tmp_path / "in", uids, tmp_path / "in" / "new") == 2
    assert "give another" in capsys.readouterr().err
    assert reshard(tmp_path / "s", uids, tmp_path / "o") == 2
    assert "no .tar there" in capsys.readouterr().err


def test_task_of_an_array_that_begins_while_another_writes_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one does all of it just when this one looks at the folder."""
    folder, out = tmp_path / "in", tmp_path / "out"
    uids = subset(tmp_path / "s.npy", list(pool(folder)))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    known = Path.iterdir

    def behind_another(path: Path) -> Iterator[Path]:
        if path == out:
            monkeypatch.setattr(Path, "iterdir", known)
            assert reshard(folder, uids, out, "--executor", "slurm") == 0
        return known(path)

    monkeypatch.setattr(Path, "iterdir", behind_another)
    assert reshard(folder, uids, out, "--executor", "slurm") == 0
    assert Path.iterdir is known and len(read(out)) == 30


def test_call_that_begins_while_the_same_call_ends_finds_its_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has done all of it, and its work folder is gone, when this one looks."""
    folder, out = tmp_path / "in", tmp_path / "out"
    uids = subset(tmp_path / "s.npy", list(pool(folder)))
    known = Path.iterdir

    def behind_another(path: Path) -> Iterator[Path]:
        if path == out:
            monkeypatch.setattr(Path, "iterdir", known)
            assert reshard(folder, uids, out) == 0
        return known(path)

    monkeypatch.setattr(Path, "iterdir", behind_another)
    assert reshard(folder, uids, out) == 0
    assert Path.iterdir is known and len(read(out)) == 30 and not (out / ".work").exists()


def literal(lengths: list[int], size: int, limit: int) -> list[int]:
    """A shard after the other, copy by copy."""
    starts, count, held = [], 0, 0
    for place, length in enumerate(lengths):
        if count == size or (count and held + length > limit):
            starts.append(place)
            count, held = 0, 0
        count, held = count + 1, held + length
    return starts


@given(st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=6), st.integers(1, 7))
def test_shards_are_cut_as_copy_by_copy(parts: list[list[int]], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_BYTES", 10)
        starts: list[Any] = []
        filled, offset = (0, 0), 0
        for part in parts:
            cuts, filled = plan.cut(np.array(part, np.int64), size, filled)
            starts += [offset + cut for cut in cuts]
            offset += len(part)
    whole = [length for part in parts for length in part]
    assert [s for s in starts if s < len(whole)] == literal(whole, size, 10)
