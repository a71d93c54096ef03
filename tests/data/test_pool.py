from __future__ import annotations

import csv
import json
import pickle
import random
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from presel_lightning.data import TaskRule, build_pool, images_changed, load_pool, source
from presel_lightning.data.images import Verify
from presel_lightning.data.record_file import digest_turns
from presel_lightning.data.resolver import Resolver
from presel_lightning.errors import UserError
from tests.data.memory import risen

Record = dict[str, Any]


def save(path: Path, cut: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    if cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make(name: str, answer: str = "A dog", **more: Any) -> Record:
    question = {"from": "human", "value": "<image>\nWhat is it?"}
    turns = [question, {"from": "gpt", "value": answer}]
    return {"id": name, "image": f"{name}.jpg", "task": "vqa", "conversations": turns, **more}


def write(folder: Path, records: list[Record], name: str = "train.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(records))
    return path


def problems(out: Path) -> list[dict[str, str]]:
    with (out / "problems.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images a.jpg ... f.jpg."""
    for name in "abcdef":
        save(tmp_path / "data" / f"{name}.jpg")
    return tmp_path / "data"


def test_build_pool_invalid_records_are_listed_and_skipped(root: Path, tmp_path: Path) -> None:
    for name in ("cut1", "cut2"):
        save(root / f"{name}.jpg", cut=True)
    (root / "text.jpg").write_text("no picture")
    (root / "zero.jpg").touch()
    save(root / "user.jpg")
    save(root / "notoken.jpg")
    user = make("user")
    user["conversations"][0]["from"] = "user"
    no_image = make("noimage")
    del no_image["image"]
    planted = {
        "cut1": (make("cut1"), "truncated"),
        "cut2": (make("cut2"), "truncated"),
        "gone": (make("gone"), "missing"),
        "text": (make("text"), "not_an_image"),
        "etc": (make("etc", image="../../etc/passwd"), "outside_root"),
        "a": (make("a"), "repeated_record"),
        "b": (make("b", answer=" "), "empty_answer"),
        "user": (user, "unknown_role"),
        "zero": (make("zero"), "empty"),
        "noimage": (no_image, "image_token_without_image"),
    }
    text_only = {"id": "t", "conversations": [{"from": "human", "value": "Hi"}]}
    text_only["conversations"].append({"from": "gpt", "value": "Hello"})  # type: ignore[attr-defined]
    good = [make(name) for name in "acdef"]
    records = [*good, text_only, *(record for record, _ in planted.values())]
    counts = build_pool(source(str(write(root, records))), tmp_path / "out")
    listed = problems(tmp_path / "out")
    assert {row["id"]: row["problem"] for row in listed} == {
        name: problem for name, (_, problem) in planted.items()
    }
    assert len(listed) == 10 and all(row["detail"] for row in listed)
    assert str(tmp_path) not in (tmp_path / "out" / "problems.csv").read_text()
    assert (counts.pool, counts.text_only, counts.problems) == (5, 1, 10)
    assert sum(counts.by_problem.values()) == 10 and counts.by_problem["truncated"] == 2
    pool = load_pool(tmp_path / "out", root)
    assert sorted(pool.id) == list("acdef")


def test_build_pool_manifest_has_columns_and_uid_order(root: Path, tmp_path: Path) -> None:
    records = [make("a"), make("b", conversations=[]), make("c")]
    records[2]["conversations"] *= 2
    build_pool(source(str(write(root, records))), tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "pool.parquet")
    assert table.column_names == ["uid", "id", "image", "task", "n_turns", "has_instruction"]
    rows = sorted(table.to_pylist(), key=lambda row: row["id"])
    assert [(row["n_turns"], row["has_instruction"]) for row in rows] == [
        (1, True),
        (0, False),
        (2, True),
    ]
    uids = table["uid"].to_pylist()
    assert uids == sorted(uids) and all(len(uid) == 32 and int(uid, 16) >= 0 for uid in uids)
    assert (tmp_path / "out" / "problems.csv").read_text() == (
        "id,image,task,problem,detail,file,record\n"
    )


def test_pool_returns_records_samples_and_image_paths(root: Path, tmp_path: Path) -> None:
    records = [make("a"), make("b", task="caption", note="ü"), make("c", conversations=[])]
    build_pool(source(str(write(root, records))), tmp_path / "out")
    pool = load_pool(tmp_path / "out", root)
    assert len(pool) == 3 and pool.tasks == ("caption", "vqa")
    by_id = {pool.id[row]: row for row in range(3)}
    assert pool.record(by_id["b"]) == records[1]
    sample = pool.sample(by_id["a"])
    assert sample.turns[0].question == "What is it?" and sample.turns[0].answer == "A dog"
    assert (sample.uid, sample.task) == (pool.uid[by_id["a"]], "vqa")
    assert not pool.sample(by_id["c"]).has_instruction
    assert pool.n_words[by_id["a"]] == 6 and pool.n_words[by_id["c"]] == 0
    assert pool.image_path(by_id["b"]) == root / "b.jpg"
    assert sorted(pool.task_rows("vqa")) == sorted([by_id["a"], by_id["c"]])


def test_pool_rows_and_reference_are_looked_up_by_uid(root: Path, tmp_path: Path) -> None:
    build_pool(source(str(write(root, [make(name) for name in "abc"]))), tmp_path / "out")
    pool = load_pool(tmp_path / "out", root)
    assert pool.rows(pool.uid[[2, 0]]).tolist() == [2, 0] and len(pool.rows([])) == 0
    marked = pool.with_reference(pool.uid[1:2])
    assert marked.reference.tolist() == [False, True, False] and not pool.reference.any()
    for unknown in ("f" * 32, "0"):
        with pytest.raises(UserError, match=unknown):
            pool.rows([pool.uid[0], unknown])
    copy = pickle.loads(pickle.dumps(marked))
    assert copy.reference.tolist() == marked.reference.tolist()
    assert copy.record(1) == pool.record(1)


def test_pool_uid_is_unchanged_when_an_instruction_is_added(root: Path, tmp_path: Path) -> None:
    before = [make(name, conversations=[]) for name in "abc"]
    del before[0]["conversations"]
    after = [make(name) for name in "abc"]
    for name, records in (("before", before), ("after", after)):
        build_pool(source(str(write(root, records))), tmp_path / name)
    first, second = (load_pool(tmp_path / name, root) for name in ("before", "after"))
    assert first.uid.tolist() == second.uid.tolist()
    assert second.has_instruction.all() and not first.has_instruction.any()


def test_turns_digest_differs_for_different_conversations(root: Path, tmp_path: Path) -> None:
    records = [make("a"), make("b"), make("c", "A cat"), make("d", note="not said"), make("e")]
    records[4]["conversations"] = []
    build_pool(source(str(write(root, records))), tmp_path / "out")
    pool = load_pool(tmp_path / "out", root)
    digest = {pool.id[row]: pool.turns_digest[row].tobytes() for row in range(len(pool))}
    assert digest["a"] == digest["b"] == digest["d"]
    assert len({digest["a"], digest["c"], digest["e"]}) == 3
    for row in range(len(pool)):
        assert digest_turns(pool.sample(row).turns) == digest[pool.id[row]]


@pytest.mark.parametrize("verify", ["full", "header"])
def test_pool_image_digest_names_the_content_of_each_file(
    root: Path, tmp_path: Path, verify: Verify
) -> None:
    (root / "c.jpg").write_bytes((root / "c.jpg").read_bytes() + b"more")
    records = [make("a"), make("c"), make("b", image="c.jpg"), make("gone")]
    build_pool(source(str(write(root, records)), verify=verify), tmp_path / "out")
    pool = load_pool(tmp_path / "out", root)
    contents = [(root / image).read_bytes() for image in pool.image]
    expected = [blake2b(content, digest_size=16).digest() for content in contents]
    assert [digest.tobytes() for digest in pool.image_digest] == expected
    assert len(set(expected)) == 2


def test_build_pool_accepts_repeated_ids(root: Path, tmp_path: Path) -> None:
    records = [
        make("a"),
        make("a", answer="A cat"),
        make("a", image="b.jpg"),
        make("a", task="other"),
        {key: value for key, value in make("a").items() if key != "id"},
    ]
    counts = build_pool(source(str(write(root, records))), tmp_path / "out")
    assert (counts.pool, counts.problems) == (5, 0)
    assert len(set(load_pool(tmp_path / "out", root).uid)) == 5


def test_build_pool_keeps_one_of_equal_records(root: Path, tmp_path: Path) -> None:
    turned = dict(reversed(make("a").items()))
    counts = build_pool(
        source(str(write(root, [make("a"), turned, make("a"), make("b")]))), tmp_path / "out"
    )
    assert counts.pool == 2 and counts.by_problem == {"repeated_record": 2}


NAMES = st.sampled_from("abcdefxyz")
RECORDS = st.lists(
    st.builds(
        lambda image, name, task, answer: make(name, answer, image=f"{image}.jpg", task=task),
        NAMES,
        st.sampled_from(["1", "2", 3, "ü"]),
        st.sampled_from(["vqa", "ocr", ""]),
        st.sampled_from(["A dog", "A cat", ""]),
    ),
    max_size=12,
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(records=RECORDS, seed=st.integers(0, 99))
def test_build_pool_does_not_depend_on_row_order(
    root: Path, records: list[Record], seed: int
) -> None:
    shuffled = random.Random(seed).sample(records, len(records))
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder, "one"), Path(folder, "two")]
        for out, rows in zip(outs, (records, shuffled), strict=True):
            build_pool(source(str(write(root, rows))), out)
        manifests = [(out / "pool.parquet").read_bytes() for out in outs]
        assert manifests[0] == manifests[1]
        listed = [[list(row.values())[:5] for row in problems(out)] for out in outs]
        assert sorted(listed[0]) == sorted(listed[1])
        one, two = (load_pool(out, root) for out in outs)
        assert [one.record(row) for row in range(len(one))] == [
            two.record(row) for row in range(len(two))
        ]


def test_build_pool_from_folders_uses_folder_names_as_tasks(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("cats/1.jpg", "cats/sub/1.jpg", "dogs/1.jpg"):
        save(root / name)
    (root / "dogs" / "notes.jpg").write_text("no picture")
    (root / "dogs" / ".DS_Store").write_text("hidden")
    save(root / "stray.jpg")
    counts = build_pool(source(str(root)), tmp_path / "out")
    assert counts.pool == 3 and counts.by_problem == {"not_an_image": 1, "unknown_task": 1}
    pool = load_pool(tmp_path / "out", root)
    assert pool.tasks == ("cats", "dogs") and not pool.has_instruction.any()
    assert sorted(pool.image) == ["cats/1.jpg", "cats/sub/1.jpg", "dogs/1.jpg"]


def test_build_pool_assigns_tasks_by_rules_and_by_files(root: Path, tmp_path: Path) -> None:
    records = [make("a"), make("b")]
    for record in records:
        del record["task"]
    path = str(write(root, records))
    rules = [TaskRule("first", image="^a"), TaskRule("second", question="What")]
    build_pool(source(path, task_rules=rules), tmp_path / "rules")
    pool = load_pool(tmp_path / "rules", root)
    assert dict(zip(pool.image, pool.task, strict=True)) == {"a.jpg": "first", "b.jpg": "second"}
    counts = build_pool(source(path, task_rules=rules[:1]), tmp_path / "one")
    assert counts.by_problem == {"unknown_task": 1}
    other = str(write(root, [make("c")], "other.json"))
    build_pool(source([], task_files={"x": path, "y": other}), tmp_path / "files")
    pool = load_pool(tmp_path / "files", root)
    assert dict(zip(pool.id, pool.task, strict=True)) == {"a": "x", "b": "x", "c": "y"}


def test_source_fingerprint_depends_on_content_not_path(root: Path, tmp_path: Path) -> None:
    records = [make("a"), make("b")]
    print_of = source(str(write(root, records))).fingerprint()
    save(tmp_path / "else" / "a.jpg")
    moved = str(write(tmp_path / "else", records, "renamed.json"))
    assert source(moved, workers=3).fingerprint() == print_of
    assert source(moved, verify="header").fingerprint() != print_of
    assert source(moved, task_rules=[TaskRule("x")]).fingerprint() != print_of
    assert source(str(write(root, records[:1]))).fingerprint() != print_of
    json.dumps(print_of)


def test_folder_fingerprint_changes_with_new_and_edited_files(tmp_path: Path) -> None:
    save(tmp_path / "data" / "t" / "1.jpg")
    prints = [source(str(tmp_path / "data")).fingerprint()]
    save(tmp_path / "data" / "t" / "2.jpg")
    prints.append(source(str(tmp_path / "data")).fingerprint())
    save(tmp_path / "data" / "t" / "2.jpg", cut=True)
    prints.append(source(str(tmp_path / "data")).fingerprint())
    assert prints[0] != prints[1] != prints[2]


@pytest.mark.parametrize("name", ["a", "cut", "gone", "link"])
def test_images_changed_detects_repaired_and_deleted_images(
    root: Path, tmp_path: Path, name: str
) -> None:
    save(root / "cut.jpg", cut=True)
    save(tmp_path / "outside.jpg")
    (root / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    path = str(write(root, [make(each) for each in ("a", "b", "cut", "gone", "link")]))
    counts = build_pool(source(path), tmp_path / "out")
    assert counts.by_problem == {"truncated": 1, "missing": 1, "outside_root": 1}
    assert not images_changed(tmp_path / "out", Resolver(root))
    (root / f"{name}.jpg").unlink(missing_ok=True)
    if name != "a":
        save(root / f"{name}.jpg")
    assert images_changed(tmp_path / "out", Resolver(root))


@pytest.mark.parametrize(
    ("annotations", "image_root", "word"),
    [("gone.json", None, "annotations"), ("train.json", "gone", "image_root")],
)
def test_source_missing_path_error_names_its_key(
    root: Path, annotations: str, image_root: str | None, word: str
) -> None:
    write(root, [])
    with pytest.raises(UserError, match=word):
        source(str(root / annotations), image_root and str(root / image_root))


BUILDER = """
from presel_lightning.data import build_pool, source

def size(path, out):
    return build_pool(source(path, verify="header"), Path(out)).pool

size(sys.argv[1], sys.argv[3] + "/small")  # which imports the rest
"""


def test_build_pool_streams_records_in_bounded_memory(root: Path, tmp_path: Path) -> None:
    """40 000 records of 5 kB are 200 MB of JSON; what stays is a row of the manifest each."""
    n, answer = 40_000, "word " * 1000
    with (root / "large.jsonl").open("w") as handle:
        for number in range(n):
            record = make("a", f"{answer}{number}", id=f"{number:06d}")
            handle.write(json.dumps(record) + "\n")
    small = write(root, [make("a")])
    work = "size(sys.argv[2], sys.argv[3] + '/large')"
    pool, used = risen(BUILDER, work, small, root / "large.jsonl", tmp_path / "out")
    assert pool == n and used < 100, f"{used:.0f} MiB"
