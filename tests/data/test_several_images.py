"""Records with several images, from every source into the pool."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.data import Pool, build_pool, load_pool, source
from presel_lightning.data.conversation import parse, put_in, taken_out
from presel_lightning.data.forms import adopted
from presel_lightning.data.source import SeveralImages
from presel_lightning.selectors.copies import later_copies

Record = dict[str, Any]


def picture(number: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def says(*texts: str) -> list[Record]:
    return [
        {"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)
    ]


def written(folder: Path, records: list[Record]) -> str:
    for number in range(4):
        (folder / f"{number}.png").write_bytes(picture(number))
    (folder / "twin.png").write_bytes(picture(1))
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    return str(folder / "a.jsonl")


def pool_of(path: str, out: Path, keep: SeveralImages = "keep") -> tuple[Pool, dict[str, int]]:
    where = source(path, unpacked=out / "unpacked", several_images=keep)
    counts = build_pool(where, out)
    return load_pool(out, where.image_root), counts.by_problem


BOTH = ["0.png", "1.png"]
ASKED = "First: <image>\nSecond: <image>\nWhat differs?"
PARTS = [
    {"type": "text", "text": "First: "},
    {"type": "image"},
    {"type": "text", "text": "\nSecond: "},
    {"type": "image"},
    {"type": "text", "text": "\nWhat differs?"},
]
MESSAGES = [{"role": "user", "content": PARTS}, {"role": "assistant", "content": "A"}]
FORMS: list[Record] = [
    {"image": BOTH, "conversations": says(ASKED, "A")},
    {"images": BOTH, "conversations": says(ASKED, "A")},
    {"images": BOTH, "messages": MESSAGES},
    {"image": "0.png", "images": [{"path": path} for path in BOTH], "messages": MESSAGES},
    {
        "messages": [
            {
                "role": "user",
                "content": [
                    {**part, "image": BOTH[n // 2]} if part["type"] == "image" else part
                    for n, part in enumerate(PARTS)
                ],
            },
            MESSAGES[1],
        ]
    },
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_two_images_is_the_same_conversation(form: Record) -> None:
    record = adopted(form)
    assert record["image"] == BOTH and "images" not in record
    (turn,) = parse(record)
    first, second = turn.images_at
    question = turn.question
    assert (question[:first], question[first:second]) == ("First: ", "\nSecond: ")
    assert question[second:] == "\nWhat differs?"


@pytest.mark.parametrize(
    "said",
    [
        {"conversations": says("Q", "A", "R", "B")},
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {"question": "Q", "answer": "A"},
        {"texts": [{"user": "Q", "assistant": "A"}]},
    ],
)
def test_images_that_no_question_shows_come_first(said: Record) -> None:
    record = adopted({"image": BOTH, **said})
    assert record["conversations"][0]["value"] == "<image>\n<image>\nQ"
    assert parse(record)[0].images_at == (0, 0)


@given(st.lists(st.sampled_from(["", "a", " b ", "\n", "c\nd"]), min_size=1, max_size=5))
def test_placeholders_are_put_back_where_they_stood(pieces: list[str]) -> None:
    question, places = taken_out("<image>".join(pieces))
    assert len(places) == len(pieces) - 1 and "<image>" not in question
    cuts = [question[a:b] for a, b in zip((0, *places), (*places, None), strict=True)]
    assert [cut.strip() for cut in cuts] == [piece.strip() for piece in pieces]
    assert taken_out(put_in(question, places)) == (question, places)


def test_pool_keeps_all_images_and_counts_records(tmp_path: Path) -> None:
    records: list[Record] = [
        {"id": "two", "image": BOTH, "task": "t", "conversations": says(ASKED, "A")},
        {"id": "one", "image": "./2.png", "task": "t"},
        {"id": "none yet", "image": ["3.png", "./2.png", "3.png"], "task": "t"},
        {"id": "lost", "image": ["0.png", "gone.png"], "task": "t"},
        {"id": "count", "image": BOTH, "task": "t", "conversations": says("<image>Q", "A")},
    ]
    path = written(tmp_path, records)
    pool, problems = pool_of(path, tmp_path / "out")
    assert problems == {"missing": 1, "image_token_count": 1}
    shown = {pool.id[row]: pool.images(row) for row in range(len(pool))}
    assert shown == {
        "two": ("0.png", "1.png"),
        "one": ("2.png",),
        "none yet": ("3.png", "2.png", "3.png"),
    }
    assert all(pool.sample(row).images == pool.images(row) for row in range(len(pool)))
    listed = (tmp_path / "out" / "problems.csv").read_text()
    assert "lost,gone.png,t,missing" in listed and 'count,"0.png, 1.png",t' in listed
    part = pool.without(pool.id == "one")
    assert [part.images(row) for row in range(2)] == [shown[name] for name in part.id]


def test_uid_and_pool_of_other_records_stay_where_several_are_kept(tmp_path: Path) -> None:
    """And a pool without such records is the same file either way."""
    one = [{"id": str(n), "image": f"{n}.png", "task": "t"} for n in range(3)]
    path = written(tmp_path, one)
    files = {}
    for keep in ("keep", "refuse"):
        pool_of(path, tmp_path / keep, keep)
        files[keep] = (tmp_path / keep / "pool.parquet").read_bytes()
    assert files["keep"] == files["refuse"]
    path = written(tmp_path, [*one, {"id": "0", "image": BOTH, "task": "t"}])
    refused, problems = pool_of(path, tmp_path / "refused", "refuse")
    kept, none = pool_of(path, tmp_path / "kept")
    assert (problems, none) == ({"several_images": 1}, {})
    assert set(refused.uid) < set(kept.uid) and len(kept) == 4
    assert "images" not in pq.read_schema(tmp_path / "refused" / "pool.parquet").names


def test_copies_have_all_images_equal_in_order(tmp_path: Path) -> None:
    lists = [
        ["0.png", "1.png"],
        ["0.png", "twin.png"],
        ["1.png", "0.png"],
        ["0.png", "1.png", "2.png"],
    ]
    records: list[Record] = [
        *({"id": str(n), "image": images, "task": "t"} for n, images in enumerate(lists)),
        {"id": "4", "image": "0.png", "task": "t"},
    ]
    pool, _ = pool_of(written(tmp_path, records), tmp_path / "out")
    later = later_copies(pool)
    assert sum(later) == 1 and set(pool.id[later]) <= {"0", "1"}


def test_parquet_list_of_images_is_unpacked_in_order(tmp_path: Path) -> None:
    """FineVision's columns; the images of a row are numbered."""
    lists = [[0], [1, 2], [3, 1, 1], []]
    texts = [{"user": "Q?", "assistant": "A"}]
    rows = {
        "images": [[{"bytes": picture(n), "path": None} for n in some] for some in lists],
        "texts": [texts] * 4,
        "task": ["t"] * 4,
    }
    kinds = {
        "images": [datasets.Image()],
        "texts": [{"user": datasets.Value("string"), "assistant": datasets.Value("string")}],
        "task": datasets.Value("string"),
    }
    data = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
    data.to_parquet(tmp_path / "a.parquet")
    pool, problems = pool_of(str(tmp_path / "a.parquet"), tmp_path / "out")
    assert problems == {} and len(pool) == 3
    found = {
        pool.id[row]: [path.read_bytes() for path in pool.image_paths(row)] for row in range(3)
    }
    assert found == {str(n): list(map(picture, lists[n])) for n in range(3)}
    questions = {pool.id[row]: pool.sample(row).turns[0].images_at for row in range(3)}
    assert questions == {"0": (), "1": (0, 0), "2": (0, 0, 0)}


def test_tar_with_numbered_images_is_unpacked_in_their_order(tmp_path: Path) -> None:
    members = {
        "two": {"10.png": picture(3), "2.png": picture(1), "json": b'{"task": "t"}'},
        "one": {"png": picture(0), "0.png": picture(2), "json": b'{"task": "t"}'},
        "wrong": {
            "png": picture(0),
            "json": json.dumps({"task": "t", "images": BOTH}).encode(),
        },
    }
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for key, some in members.items():
            for ending, content in some.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
    pool, problems = pool_of(str(tmp_path / "a.tar"), tmp_path / "out")
    assert problems == {"image_token_count": 1}
    found = {
        pool.id[row]: [path.read_bytes() for path in pool.image_paths(row)] for row in range(2)
    }
    assert found == {"two": [picture(1), picture(3)], "one": [picture(0)]}


def test_several_images_are_refused_unless_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [{"id": str(n), "image": f"{n % 4}.png", "task": "t"} for n in range(6)]
    path = written(tmp_path, [*records, {"id": "two", "image": BOTH, "task": "t"}])
    arguments = ["select", "--config", "quickstart.yaml", "--selector", "Random"]
    arguments += ["--data.annotations", path, "--data.reference", "1", "--data.budget", "7"]
    assert main([*arguments, "--out", str(tmp_path / "refused")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "1 several_images" in said and "set data.several_images to keep" in said
    option = ["--data.copies", "keep", "--data.several_images"]
    assert main([*arguments, *option, "some", "--out", str(tmp_path / "some")]) == 2
    capsys.readouterr()
    main([*arguments, *option, "keep", "--out", str(tmp_path / "run")])
    chosen = json.loads((tmp_path / "run" / "selection" / "selected.json").read_text())
    assert [record["image"] for record in chosen if record["id"] == "two"] == [BOTH]
