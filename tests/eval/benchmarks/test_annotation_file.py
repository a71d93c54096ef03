from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile
from presel_lightning.records import Turn

Record = dict[str, Any]


def record(
    name: str, turns: list[tuple[str, str]], task: str | None = "count", **more: object
) -> Record:
    said = [
        {"from": role, "value": text}
        for question, answer in turns
        for role, text in (("human", question), ("gpt", answer))
    ]
    if said:
        said[0]["value"] = f"<image>\n{said[0]['value']}"
    named = {} if task is None else {"task": task}
    return {"id": name, "image": f"images/{name}.png", **named, "conversations": said, **more}


RECORDS = [
    record("one", [("How many?", "two"), ("Which colour?", "red")]),
    record("two", [("Which colour?", "blue")], task="colour"),
    record("three", [("How many?", "3")]),
]


def write(folder: Path, records: list[Record]) -> str:
    (folder / "images").mkdir(exist_ok=True)
    for number, name in enumerate(("one", "two", "three")):
        pixels = np.full((8, 8, 3), number, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    path = folder / "test.json"
    path.write_text(json.dumps(records))
    return str(path)


def test_annotation_file_each_answered_turn_is_an_item(tmp_path: Path) -> None:
    items = AnnotationFile(write(tmp_path, RECORDS)).items()
    assert [(i.task, i.question, i.answer) for i in items] == [
        ("count", "How many?", "two"),
        ("count", "Which colour?", "red"),
        ("colour", "Which colour?", "blue"),
        ("count", "How many?", "3"),
    ]
    assert items[0].history == () and items[1].history == (Turn("How many?", "two"),)
    assert items[1].image == (tmp_path / "images" / "one.png").resolve()
    assert len({item.uid for item in items}) == 4


def test_annotation_file_score_is_the_mean_over_tasks(tmp_path: Path) -> None:
    benchmark = AnnotationFile(write(tmp_path, RECORDS), name="small")
    score = benchmark.score(["2", "green", "Blue.", "three"])
    assert benchmark.name == "small" and score.n == 4
    assert score.tasks == pytest.approx({"count": 200 / 3, "colour": 100}, rel=1e-6)
    assert score.score == pytest.approx((200 / 3 + 100) / 2, rel=1e-6)
    with pytest.raises(ValueError, match="one target"):
        benchmark.score(["2"])


def test_annotation_file_follows_links_on_request(tmp_path: Path) -> None:
    path = write(tmp_path, RECORDS)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "images").symlink_to(tmp_path / "images")
    root = str(tmp_path / "root")
    with pytest.raises(UserError, match=r"outside_root.*link.*follow_links: true"):
        AnnotationFile(path, root).items()
    followed = AnnotationFile(path, root, follow_links=True)
    assert followed.items() == AnnotationFile(path).items()
    assert followed.fingerprint() == AnnotationFile(path).fingerprint()


def test_annotation_file_constructor_reads_no_file() -> None:
    benchmark = AnnotationFile("nowhere.json")
    assert benchmark.name == "nowhere"
    with pytest.raises(UserError, match=r"nowhere\.json: no such file; set `path`"):
        benchmark.items()


def test_annotation_file_records_without_task_form_one_task(tmp_path: Path) -> None:
    path = write(tmp_path, [record("one", [("q", "a")], task=None, kind="x")])
    assert AnnotationFile(path, name="mine").items()[0].task == "mine"
    assert AnnotationFile(path, name="mine", task_key="kind").items()[0].task == "x"


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9])
def test_annotation_file_limit_is_spread_over_the_file(tmp_path: Path, limit: int) -> None:
    path = write(tmp_path, RECORDS)
    every = [item.uid for item in AnnotationFile(path).items()]
    few = [item.uid for item in AnnotationFile(path, limit=limit).items()]
    assert len(few) == min(limit, 4) and set(few) <= set(every)
    assert few == sorted(few, key=every.index)
    if limit == 2:
        assert few == [every[0], every[2]]


def test_annotation_file_limit_zero_raises_user_error() -> None:
    with pytest.raises(UserError, match="limit"):
        AnnotationFile("x.json", limit=0)


def without(key: str) -> Record:
    return {k: v for k, v in RECORDS[1].items() if k != key}


@pytest.mark.parametrize(
    ("faulty", "problem"),
    [
        (without("conversations"), "no_answer"),
        ({**RECORDS[1], "conversations": []}, "no_answer"),
        ({**RECORDS[1], "conversations": RECORDS[1]["conversations"][:1]}, "turn_without_answer"),
        ({"id": "two", "conversations": RECORDS[0]["conversations"]}, "image_token_without_image"),
        (
            {"id": "two", "conversations": [{"from": "human", "value": "q"},
                                            {"from": "gpt", "value": "a"}]},
            "no_image",
        ),
        ({**RECORDS[1], "image": "images/none.png"}, "missing"),
        ({**RECORDS[1], "image": "../two.png"}, "outside"),
        (RECORDS[0], "repeat"),
    ],
)  # fmt: skip
def test_annotation_file_invalid_record_raises_user_error(
    tmp_path: Path, faulty: Record, problem: str
) -> None:
    path = write(tmp_path, [RECORDS[0], faulty, RECORDS[2]])
    with pytest.raises(UserError, match=rf"1 of 3 records.*record 2 \(id .*{problem}"):
        AnnotationFile(path).items()


def test_annotation_file_many_problems_are_abbreviated(tmp_path: Path) -> None:
    broken = [{**RECORDS[0], "id": str(i), "image": f"images/{i}.png"} for i in range(9)]
    with pytest.raises(UserError, match=r"9 of 9 records.*record 5 \(id 4.*and 4 more"):
        AnnotationFile(write(tmp_path, broken)).items()


def test_annotation_file_empty_file_raises_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no record"):
        AnnotationFile(write(tmp_path, [])).items()


def test_annotation_file_fingerprint_depends_on_content(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c", "d")]
    for folder in folders:
        folder.mkdir()
    one, same, other, image = (write(folder, RECORDS) for folder in folders)
    other = write(folders[2], [*RECORDS[:2], record("three", [("How many?", "4")])])
    picture = folders[3] / "images" / "one.png"
    picture.write_bytes(picture.read_bytes()[:-1] + b"\0")  # no other size
    known = AnnotationFile(one).fingerprint()
    assert json.loads(json.dumps(known)) == known
    assert AnnotationFile(same).fingerprint() == known
    for different in (
        AnnotationFile(other),
        AnnotationFile(image),
        AnnotationFile(one, limit=2),
        AnnotationFile(one, task_key="kind"),
        AnnotationFile(one, max_new_tokens=5),
    ):
        assert different.fingerprint() != known


def test_annotation_file_quickstart_generates_its_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path))
    items = AnnotationFile("quickstart", limit=8).items()
    assert len(items) == 8 and all(item.image.is_relative_to(tmp_path) for item in items)
