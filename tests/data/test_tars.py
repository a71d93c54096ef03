"""Tars of webdataset as packages of images."""

from __future__ import annotations

import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.data import build_pool, source
from presel_lightning.data.fields import Packed
from presel_lightning.data.tars import MAX_MEMBERS, tar_samples
from tests.data.packed import TURNS, link, picture, pool_of, problems, tar


def test_unpack_webdataset_keeps_ids_tasks_and_fields(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    pattern = str(tmp_path / "shards" / "%04d.tar")
    with webdataset.ShardWriter(pattern, maxcount=3, verbose=0) as writer:
        for number in range(5):
            told = {"task": "vqa", "conversations": TURNS, "from": "afar"} if number < 2 else {}
            sample = {"__key__": f"sub/{number}", "jpg": picture(number, "JPEG"), "json": told}
            writer.write(sample | ({"cls": 7} if number == 3 else {"txt": "a caption"}))
    pool, odd = pool_of(tmp_path / "shards", tmp_path / "out")
    rows = np.argsort(pool.id)
    assert not odd
    assert pool.id[rows].tolist() == [f"sub/{number}" for number in range(5)]
    assert pool.task[rows].tolist() == ["vqa", "vqa", "shards", "7", "shards"]
    assert pool.n_turns[rows].tolist() == [1, 1, 0, 0, 0]  # a caption answers no question
    assert pool.image[rows][0] == "shards/0000/sub/0.jpg"
    assert pool.image_path(rows[4]).read_bytes() == picture(4, "JPEG")
    assert pool.sample(rows[0]).record["from"] == "afar"
    assert pool.sample(rows[2]).record["txt"] == "a caption"


def test_unpack_single_tar_with_question_and_answer_is_read(tmp_path: Path) -> None:
    told = json.dumps({"question": "What?", "answer": "A dot."}).encode()
    path = tar(tmp_path / "pets.tar", [("./1.PNG", picture(1)), ("./1.json", told)])
    pool, _ = pool_of(path, tmp_path / "out", task_key="kind")
    assert pool.reveal(pool.uid[0]) == TURNS and pool.image[0] == "pets/pets/1.png"
    assert pool.tasks == (tmp_path.name,)


HOSTILE = ["../x.png", "/tmp/x.png", "a/../../x.png", "a/../b.png", "c:\\x.png", "~/.ssh/x.png"]


def test_unpack_hostile_tar_writes_only_inside_the_folder(tmp_path: Path) -> None:
    members: list[tuple[str | tarfile.TarInfo, bytes]] = [("good.png", picture(0))]
    members += [(name, picture(n)) for n, name in enumerate(HOSTILE, start=1)]
    members += [(link("soft.png"), b""), (link("hard.png", tarfile.LNKTYPE), b"")]
    members += [(link("pipe.png", tarfile.FIFOTYPE), b""), (link("folder"), b"")]
    members += [("folder/in.png", picture(20)), ("good.png", picture(21))]
    members += [("good.png/below.png", picture(22)), ("x" * 300 + ".png", picture(23))]
    path = tar(tmp_path / "deep" / "deeper" / "bad.tar", members)
    before = {each for each in tmp_path.rglob("*")}
    pool, odd = pool_of(path, tmp_path / "out")
    assert {each for each in tmp_path.rglob("*") if tmp_path / "out" not in each.parents} == (
        before | {tmp_path / "out"}
    )
    root = (tmp_path / "out" / "unpacked").resolve()
    unpacked = [each for each in root.rglob("*") if each.is_file() or each.is_symlink()]
    assert all(not each.is_symlink() and root in each.resolve().parents for each in unpacked)
    assert odd == {"outside_root": 4, "not_unpacked": 5}
    assert sorted(i for i in pool.id if len(i) < 300) == [
        *("c:\\x", "folder/in", "good", "~/.ssh/x")
    ]
    assert pool.image_path(pool.id.tolist().index("good")).read_bytes() == picture(0)
    reasons = {problem["id"]: problem["detail"] for problem in problems(tmp_path / "out")}
    assert "its .png is a link" in reasons["soft"]
    assert reasons["good"] == "a second sample of this name"


def test_unpack_tar_invalid_samples_are_listed(tmp_path: Path) -> None:
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    texts = [b"{", b"[1]", b"\xff", b'{"a": NaN}', b'{"a": 1e999}', deep]
    members: list[tuple[str | tarfile.TarInfo, bytes]] = []
    for number, text in enumerate(texts):
        members += [(f"{number}.png", picture(number)), (f"{number}.json", text)]
    members += [("two.png", picture(7)), ("two.jpg", picture(8, "JPEG"))]
    members += [("alone.json", b"{}"), ("dotted.1.png", picture(9)), ("mask.seg.png", b"")]
    members += [("mask.png", picture(10)), ("zero.png", b""), ("README", b"hello")]
    members += [(f"many.{'x' * i}.png", b"") for i in range(MAX_MEMBERS * 2)]
    pool, odd = pool_of(tar(tmp_path / "a.tar", members), tmp_path / "out")
    assert pool.id.tolist() == ["mask"]
    kinds = {"not_json": 2, "not_a_record": 1, "bad_number": 2, "too_deep": 1}
    assert odd == {**kinds, "not_unpacked": 4, "empty": 1}
    listed = {p["id"]: p for p in problems(tmp_path / "out")}
    assert "its members are png, jpg" in listed["two"]["detail"]
    assert "a name ends at its first dot" in listed["dotted"]["detail"]
    assert (listed["0"]["file"], listed["0"]["record"]) == ("a.tar", "1 0")


@pytest.mark.parametrize(("size", "kept"), [(600, 0), (2100, 2), (3000, 3), (3072, 3)])
def test_unpack_truncated_tar_keeps_complete_samples(tmp_path: Path, size: int, kept: int) -> None:
    """Cut in the content, behind a member, in the end mark: what came before is kept."""
    members: list[tuple[str | tarfile.TarInfo, bytes]]
    members = [(f"{n}.png", picture(n)) for n in range(3)]
    path = tar(tmp_path / "a.tar", members)
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    pool, odd = pool_of(path, tmp_path / "out")
    assert len(pool) == kept and odd == {"not_unpacked": 1}
    assert "the tar breaks off" in problems(tmp_path / "out")[0]["detail"]
    other, odd = pool_of([path, tar(tmp_path / "b.tar", members)], tmp_path / "out")
    assert len(other) == kept + 3  # the other tar is read


def test_tar_samples_skip_oversized_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("presel_lightning.data.tars.MAX_IMAGE", 300)
    path = tar(tmp_path / "a.tar", [("a.png", picture(0)), ("b.png", bytes(301))])
    first, second = tar_samples(path, "task")
    assert first.image == picture(0) and second.image is None
    assert "301 bytes, over 300" in second.fault


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_tar_samples_corrupt_tar_never_raises(seed: int, changes: int) -> None:
    import tempfile

    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        path = tar(Path(name) / "in" / "a.tar", [(f"{n}.png", picture(n)) for n in range(3)])
        content = bytearray(path.read_bytes()[:4096])
        for _ in range(changes):
            start = rng.choice([0, 1024, 2048, 3072])
            content[start + rng.randrange(400)] = rng.choice(b"\0\x80\xff79/.LKgxS")
        for start in (0, 1024, 2048):  # a checksum that fits, as an attacker has it
            header = content[start : start + 512]
            header[148:156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
        path.write_bytes(content)
        samples = list(tar_samples(path, "task"))
        assert len(samples) <= 10 and all(isinstance(each, Packed) for each in samples)


@pytest.mark.parametrize("part", ["header", "size", "json"])
def test_unpack_tar_broken_member_ends_no_other_sample(tmp_path: Path, part: str) -> None:
    members: list[tuple[str | tarfile.TarInfo, bytes]] = []
    for number in range(5):
        members += [(f"{number}.png", picture(number)), (f"{number}.json", b'{"task": "t"}')]
    path = tar(tmp_path / "a.tar", members)
    with tarfile.open(path) as handle:
        info = handle.getmember("2.json")
    content = bytearray(path.read_bytes())
    place = {"header": info.offset + 300, "size": info.offset + 124, "json": info.offset_data}[part]
    content[place] ^= 0x15
    path.write_bytes(content)
    pool, odd = pool_of(path, tmp_path / "out")
    assert sorted(pool.id) == ["0", "1", "3", "4"]
    assert odd == {"not_json" if part == "json" else "not_unpacked": 1}
    (listed,) = problems(tmp_path / "out")
    assert (listed["id"], listed["file"], listed["record"]) == ("2", "a.tar", "3 2")


def test_tables_of_a_downloader_beside_its_tars_are_passed_over(tmp_path: Path) -> None:
    """As img2dataset leaves a shard: tar, table, figures."""
    for shard in ("00000", "00001"):
        members: list[tuple[str | tarfile.TarInfo, bytes]] = [
            (f"{shard}{n}.jpg", picture(n, "JPEG")) for n in range(3)
        ]
        tar(tmp_path / "web" / f"{shard}.tar", members)
        pq.write_table(pa.table({"url": ["a"]}), tmp_path / "web" / f"{shard}.parquet")
        (tmp_path / "web" / f"{shard}_stats.json").write_text("{}")
    where = source(str(tmp_path / "web"), unpacked=tmp_path / "unpacked")
    counts = build_pool(where, tmp_path / "out")
    assert (counts.pool, counts.problems) == (6, 0)
    assert counts.passed_over == {".parquet": 2, ".json": 2}
