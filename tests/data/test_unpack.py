from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.data import Pool, build_pool, load_pool, source
from presel_lightning.data.fields import Packed
from presel_lightning.data.packages import Package, packed_files
from presel_lightning.data.tables import table_samples
from presel_lightning.data.tars import MAX_MEMBERS, tar_samples
from presel_lightning.data.unpack import safe_name, unpacked_before
from presel_lightning.errors import UserError

datasets.disable_progress_bars()
TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dot."}]


def picture(number: int, form: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def pool_of(path: Path | list[Path], out: Path, **options: Any) -> tuple[Pool, dict[str, int]]:
    names = list(map(str, path)) if isinstance(path, list) else str(path)
    where = source(names, unpacked=out / "unpacked", **options)
    counts = build_pool(where, out)
    return load_pool(out, where.image_root), counts.by_problem


def problems(out: Path) -> list[dict[str, str]]:
    with (out / "problems.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def tar(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as handle:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            handle.addfile(info, io.BytesIO(content))
    return path


def link(name: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


# ---------------------------------------------------------------- Hugging Face datasets


def dataset(n: int = 5, **columns: tuple[list[Any], Any]) -> datasets.Dataset:
    images = [{"bytes": picture(i, ("PNG", "JPEG")[i % 2]), "path": None} for i in range(n)]
    table = {"image": images, "label": [i % 2 for i in range(n)]}
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    for name, (values, feature) in columns.items():
        table[name], features[name] = values, feature
    return datasets.Dataset.from_dict(table, features=datasets.Features(features))


def save_arrow(data: datasets.Dataset, path: Path) -> None:
    data.save_to_disk(path, num_shards=2)


def save_parquet(data: datasets.Dataset, path: Path) -> None:
    path.mkdir()
    for shard in range(2):
        part = data.shard(2, shard, contiguous=True)
        part.to_parquet(path / f"train-{shard:05d}-of-00002.parquet")


@pytest.mark.parametrize("save", [save_arrow, save_parquet])
def test_unpack_dataset_keeps_image_bytes_tasks_and_ids(
    tmp_path: Path, save: Callable[[datasets.Dataset, Path], None]
) -> None:
    save(dataset(), tmp_path / "pets")
    pool, odd = pool_of(tmp_path / "pets", tmp_path / "out", task_key="label")
    rows = np.argsort(pool.image)
    assert not odd and not pool.has_instruction.any()
    endings = [".png", ".jpg", ".png", ".jpg", ".png"]
    assert pool.image[rows].tolist() == [f"pets/00000/{i:08d}{e}" for i, e in enumerate(endings)]
    assert pool.task[rows].tolist() == ["cat", "dog", "cat", "dog", "cat"]
    assert pool.id[rows].tolist() == list("01234")
    for number, row in enumerate(rows):  # not re-encoded
        assert pool.image_path(row).read_bytes() == picture(number, ("PNG", "JPEG")[number % 2])


def test_unpack_dataset_with_conversations_is_read(tmp_path: Path) -> None:
    text = datasets.Value("string")
    turns = [TURNS, [], None]
    data = dataset(
        3,
        id=(["x", "y", "z"], text),
        conversations=(turns, [{"from": text, "value": text}]),
        task=(["vqa", "vqa", None], text),
    )
    data.save_to_disk(tmp_path / "d")
    pool, odd = pool_of(tmp_path / "d", tmp_path / "out")
    assert odd == {"unknown_task": 1} and sorted(pool.id) == ["x", "y"]
    assert pool.n_turns[pool.id.tolist().index("x")] == 1 and pool.n_turns.sum() == 1


def test_unpack_dataset_with_questions_and_answers_is_read(tmp_path: Path) -> None:
    text = datasets.Value("string")
    data = dataset(3, question=(["What?", None, "?"], text), answer=(["A dot.", None, ""], text))
    data.save_to_disk(tmp_path / "d")
    pool, odd = pool_of(tmp_path / "d", tmp_path / "out", task_key="label")
    assert odd == {"empty_answer": 1}
    assert [pool.reveal(uid) for uid in pool.uid[np.argsort(pool.id)]] == [TURNS, []]


def test_unpack_dataset_invalid_rows_are_listed(tmp_path: Path) -> None:
    data = dataset(5)
    images = [row["image"] for row in data.with_format("arrow").to_list()]
    images[1] = {"bytes": images[1]["bytes"][:60], "path": None}
    images[2] = None
    images[3] = {"bytes": b"<svg/>", "path": "a/b.svg"}
    table = {"image": images, "label": [0, 0, 0, 0, -1]}
    features = datasets.Features({**data.features, "image": data.features["image"]})
    raw = {"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
    datasets.Dataset.from_dict(table, features=datasets.Features({**features, **raw})).save_to_disk(
        tmp_path / "d"
    )
    pool, odd = pool_of(tmp_path / "d", tmp_path / "out", task_key="label")
    assert pool.id.tolist() == ["0"]
    assert odd.pop("unknown_task") == odd.pop("not_unpacked") == odd.pop("not_an_image") == 1
    assert sum(odd.values()) == 1 and set(odd) <= {"truncated", "unreadable"}
    (listed,) = [p for p in problems(tmp_path / "out") if p["problem"] == "not_unpacked"]
    assert listed["detail"] == "row 2 holds no image"
    assert (listed["file"], listed["record"]) == ("data-00000-of-00001.arrow", "3")


@pytest.mark.parametrize("save", [save_arrow, save_parquet])
def test_unpack_truncated_dataset_keeps_complete_rows(
    tmp_path: Path, save: Callable[[datasets.Dataset, Path], None]
) -> None:
    save(dataset(6), tmp_path / "d")
    last = max(path for path in (tmp_path / "d").iterdir() if path.suffix != ".json")
    last.write_bytes(last.read_bytes()[:200])
    pool, odd = pool_of(tmp_path / "d", tmp_path / "out", task_key="label")
    assert sorted(pool.id) == ["0", "1", "2"] and sum(odd.values()) == 1
    assert problems(tmp_path / "out")[0]["file"] == last.name


def test_unpack_several_splits_error_names_them(tmp_path: Path) -> None:
    datasets.DatasetDict(train=dataset(1), test=dataset(1)).save_to_disk(tmp_path / "d")
    with pytest.raises(UserError, match=r"d/train, .*d/test"):
        packed_files(tmp_path / "d")
    (tmp_path / "p").mkdir()
    for split in ("train", "test"):
        dataset(1).to_parquet(tmp_path / "p" / f"{split}-00000-of-00001.parquet")
    with pytest.raises(UserError, match="splits test, train"):
        packed_files(tmp_path / "p")


def test_unpack_task_files_of_equal_split_names_are_separate(tmp_path: Path) -> None:
    """Two splits of one name, each a task, without a task column."""
    for name in ("pets", "cars"):
        dataset(2).remove_columns("label").save_to_disk(tmp_path / name / "train")
    files = {name: str(tmp_path / name / "train") for name in ("pets", "cars")}
    pool, odd = pool_of(tmp_path, tmp_path / "out", task_files=files)
    assert not odd and pool.tasks == ("cars", "pets")
    assert {image.split("/")[0] for image in pool.image} == {"train", "train~2"}


@pytest.mark.parametrize(
    ("columns", "said"),
    [(["label"], "no image column.*label"), (["image", "label"], "no column 'task'.*image, label")],
)
def test_unpack_missing_columns_are_named(tmp_path: Path, columns: list[str], said: str) -> None:
    dataset(1).select_columns(columns).save_to_disk(tmp_path / "d")
    with pytest.raises(UserError, match=said):
        source(str(tmp_path / "d"), unpacked=tmp_path / "out")
    assert not [each for each in (tmp_path / "out").iterdir() if each.is_dir()]


def test_unpack_invalid_parquet_raises_user_error(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"hello")
    with pytest.raises(UserError, match=r"a\.parquet: no parquet file"):
        source(str(tmp_path / "a.parquet"), unpacked=tmp_path / "out")


def test_table_samples_stream_parquet_in_bounded_memory(tmp_path: Path) -> None:
    images = [{"bytes": random.Random(n).randbytes(10**6), "path": None} for n in range(24)]
    table = pa.table({"image": images})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    del table
    before = pa.total_allocated_bytes()
    held = []
    for number, sample in enumerate(table_samples([tmp_path / "a.parquet"], "task", False)):
        assert sample.image == images[number]["bytes"]
        held.append(pa.total_allocated_bytes() - before)
    assert len(held) == 24 and max(held) < 12e6


# ---------------------------------------------------------------- webdataset tars


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


# ---------------------------------------------------------------- unpacked once


def test_unpack_second_run_reuses_the_unpacked_folder(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("1.png", picture(1))])
    out = tmp_path / "unpacked"
    first = source(str(path), unpacked=out)
    (image,) = first.image_root.rglob("*.png")
    marked = image.stat().st_mtime_ns - 10**9
    os.utime(image, ns=(marked, marked))
    (out / "0123.part").mkdir()  # of a start that was killed
    assert source(str(path), unpacked=out) == first and image.stat().st_mtime_ns == marked
    assert [each.name for each in out.iterdir() if each.is_dir()] == [first.image_root.parent.name]
    tar(path, [("1.png", picture(2)), ("2.png", picture(3))])
    again = source(str(path), unpacked=out)
    assert again != first and not first.image_root.exists()
    assert [entry.record["id"] for entry in again.entries()] == ["1", "2"]
    path.unlink()
    assert unpacked_before([path], out) == again.image_root
    assert unpacked_before([tmp_path / "b.tar"], out) is None


def test_unpack_interrupted_run_restarts_from_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tar(tmp_path / "a.tar", [("1.png", picture(1)), ("2.png", picture(2))])

    def killed(package: Package) -> Any:
        yield next(tar_samples(package.files[0], "task"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Package, "samples", killed)
        source(str(path), unpacked=tmp_path / "out")
    assert not list((tmp_path / "out").glob("*/origin.json"))
    where = source(str(path), unpacked=tmp_path / "out")
    assert [entry.record["id"] for entry in where.entries()] == ["1", "2"]


def test_unpack_uids_do_not_depend_on_path_or_time(tmp_path: Path) -> None:
    path = tar(tmp_path / "here" / "pool" / "a.tar", [("1.png", picture(1))])
    other = tmp_path / "there" / "pool" / "a.tar"
    other.parent.mkdir(parents=True)
    shutil.copy(path, other)
    uids = {pool_of(each, tmp_path / each.parts[-3] / "o")[0].uid[0] for each in (path, other)}
    assert len(uids) == 1


def test_folder_of_images_with_a_tar_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "1.png").write_bytes(picture(1))
    tar(tmp_path / "stray.tar", [])
    pool, odd = pool_of(tmp_path, tmp_path.with_name("out"))
    assert pool.image.tolist() == ["cats/1.png"] and not odd


def test_source_mixing_tar_and_json_raises_user_error(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("1.png", picture(1))])
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(UserError, match="cannot be mixed"):
        source([str(path), str(tmp_path / "a.json")], unpacked=tmp_path / "out")
    with pytest.raises(UserError, match=r"leave out data\.image_root"):
        source(str(path), str(tmp_path), unpacked=tmp_path / "out")


@example("\ud800")  # JSON can name it, no file system can
@given(st.text(st.characters(), max_size=300))
def test_safe_name_returns_a_relative_path_without_special_chars(name: str) -> None:
    safe = safe_name(name)
    if safe is None:
        return
    parts = safe.split("/")
    assert all(0 < len(part.encode()) <= 140 and part[0] != "." for part in parts)
    assert "\0" not in safe and not any(c in safe for c in '\\:*?"<>|')
    assert os.path.normpath(safe) == safe and not os.path.isabs(safe)
    assert safe_name(f"{name}?") != safe


# ---------------------------------------------------------------- whole runs


@pytest.mark.parametrize("form", ["dataset", "tars"])
def test_select_packed_source_requests_instructions_and_exports(
    pool_folder: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    records = json.loads((pool_folder / "train.json").read_text())[:60]
    images = [(pool_folder / record["image"]).read_bytes() for record in records]
    place = tmp_path / "photos"
    if form == "dataset":
        names = sorted({record["task"] for record in records})
        table = {
            "image": [{"bytes": content, "path": None} for content in images],
            "kind": [names.index(record["task"]) for record in records],
        }
        kinds = {"image": datasets.Image(), "kind": datasets.ClassLabel(names=names)}
        data = datasets.Dataset.from_dict(table, features=datasets.Features(kinds))
        data.save_to_disk(place)
    else:
        place.mkdir()
        for shard in range(2):
            with webdataset.TarWriter(str(place / f"{shard}.tar")) as writer:
                for n in range(shard, 60, 2):
                    told = {"kind": records[n]["task"]}
                    writer.write({"__key__": f"{n}", "png": images[n], "json": told})
    out = tmp_path / "run"
    command = ["select", "--config", "quickstart.yaml", "--selector", "SizeBalanced"]
    command += ["--data.annotations", str(place), "--data.task_key", "kind"]
    command += ["--data.budget", "12", "--out", str(out)]
    assert main(command) == 3
    requests = [json.loads(line) for line in (out / "selection" / "requests.jsonl").open()]
    assert len(requests) == 12
    assert {request["task"] for request in requests} <= {record["task"] for record in records}
    capsys.readouterr()
    assert main(command) == 3
    assert "pool         reused" in capsys.readouterr().out
    shutil.rmtree(place)  # an export needs the run folder alone
    export = ["export", "--run", str(out), "--to", "csv", "--path", str(tmp_path / "list")]
    assert main(export) == 0
    assert "12 samples" in capsys.readouterr().out


# ---------------------------------------------------------------- one faulty sample


def test_unpack_parquet_faulty_rows_end_no_other(tmp_path: Path) -> None:
    images: list[Any] = [{"bytes": picture(n), "path": None} for n in range(40)]
    images[3], images[4] = None, {"bytes": None, "path": "a.png"}
    ids = [str(n).encode() for n in range(40)]
    ids[17] = b"\xff\xfe"
    columns = {"image": images, "id": pa.array(ids, pa.binary()).view(pa.string())}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns | {"task": ["t"] * 40}), path, row_group_size=20)
    pool, odd = pool_of(path, tmp_path / "out")
    assert sorted(map(int, pool.id)) == [n for n in range(40) if n not in (3, 4, 17)]
    assert odd == {"not_unpacked": 2, "bad_row": 1}
    assert sorted(p["record"] for p in problems(tmp_path / "out")) == ["18", "4", "5"]


def test_unpack_parquet_broken_row_group_is_a_problem_of_each_row(tmp_path: Path) -> None:
    table = {"image": [{"bytes": picture(n), "path": None} for n in range(60)], "task": ["t"] * 60}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(table), path, row_group_size=20, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    start = column.data_page_offset + 40
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    pool, odd = pool_of(path, tmp_path / "out")
    assert len(pool) == 40 and odd == {"bad_row": 20}
    assert {p["file"] for p in problems(tmp_path / "out")} == {"a.parquet"}


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
