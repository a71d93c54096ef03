"""Hugging Face data sets and Parquet files as packages of images."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presel_lightning.data import source
from presel_lightning.data.packages import packed_files
from presel_lightning.data.tables import table_samples
from presel_lightning.errors import UserError
from tests.data.packed import TURNS, picture, pool_of, problems

datasets.disable_progress_bars()


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
