"""Every form of a record, in every source."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.data import build_pool, load_pool, source
from presel_lightning.data.forms import adopted

Record = dict[str, Any]
Write = Callable[[Path, list[Record]], str]


def picture(number: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def as_json(folder: Path, records: list[Record]) -> str:
    for number in range(len(records)):
        (folder / f"{number}.png").write_bytes(picture(number))
    lines = [
        json.dumps({"image": f"{number}.png", **record}) for number, record in enumerate(records)
    ]
    (folder / "a.jsonl").write_text("\n".join(lines))
    return str(folder / "a.jsonl")


def as_parquet(folder: Path, records: list[Record]) -> str:
    keys = dict.fromkeys(key for record in records for key in record)
    rows: Record = {key: [record.get(key) for record in records] for key in keys}
    rows["image"] = [
        None if "image" in record else {"bytes": picture(number), "path": None}
        for number, record in enumerate(records)
    ]
    datasets.Dataset.from_dict(rows).to_parquet(folder / "a.parquet")
    return str(folder / "a.parquet")


def as_tar(folder: Path, records: list[Record]) -> str:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number, record in enumerate(records):
            members = {"json": json.dumps(record).encode(), "png": picture(number)}
            if "image" in record:
                del members["png"]
            for ending, content in members.items():
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
    return str(folder / "a.tar")


@pytest.fixture(params=[as_json, as_parquet, as_tar], ids=lambda write: write.__name__)
def write(request: pytest.FixtureRequest) -> Write:
    found: Write = request.param
    return found


def read(folder: Path, annotations: str, **options: Any) -> tuple[list[str], dict[str, int]]:
    """Question and answer of each sample with instruction, by id; problems by kind."""
    out = folder / "out"
    where = source(annotations, unpacked=folder / "unpacked", **options)
    counts = build_pool(where, out)
    pool = load_pool(out, where.image_root)
    samples = sorted((pool.sample(row) for row in range(len(pool))), key=lambda s: s.id)
    said = [" ".join(t.system + t.question + t.answer for t in s.turns) for s in samples]
    return said, counts.by_problem


def chat(content: Any, answer: Any = "A") -> list[Record]:
    return [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]


PARTS: list[Record] = [{"type": "image", "text": None}, {"type": "text", "text": "Q?"}]
FORMS: dict[str, tuple[Record, str]] = {
    "messages": ({"messages": chat("Q?")}, "Q?A"),
    "parts": ({"messages": chat(PARTS, [{"type": "text", "text": "A"}])}, "Q?A"),
    "texts": ({"texts": [{"user": "Q?", "assistant": "A", "source": "x"}]}, "Q?A"),
    "number": ({"question": "Q?", "answer": 0}, "Q?0"),
    "float": ({"question": "Q?", "answer": 0.0}, "Q?0.0"),
    "boolean": ({"question": "Q?", "answer": False}, "Q?no"),
    "null": ({"question": None, "answer": None}, ""),
    "system": ({"system": "Be brief. ", "messages": chat("Q?")}, "Be brief. Q?A"),
    "system message": (
        {"messages": [{"role": "system", "content": "Brief. "}, *chat("Q?")]},
        "Brief. Q?A",
    ),
    "system_prompt": ({"system_prompt": "B. ", "question": "Q?", "answer": "A"}, "B. Q?A"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_source_reads_the_form(form: str, write: Write, tmp_path: Path) -> None:
    record, said = FORMS[form]
    assert read(tmp_path, write(tmp_path, [{"id": "0", "task": "t", **record}])) == ([said], {})


REFUSED: dict[str, tuple[Record, str]] = {
    "list": ({"question": "Q?", "answer": ["red", "dark red"]}, "list_value"),
    "empty": ({"question": "Q?", "answer": ""}, "empty_answer"),
    "null": ({"question": "Q?", "answer": None}, "empty_answer"),
    "video": ({"video": "a.mp4", "messages": chat("Q?")}, "video"),
    "audio": ({"audio": ["a.wav"], "messages": chat("Q?")}, "audio"),
    "video part": ({"messages": chat([{"type": "video", "text": "x"}], [])}, "video"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_every_source_lists_what_it_cannot_read(form: str, write: Write, tmp_path: Path) -> None:
    record, problem = REFUSED[form]
    found = read(tmp_path, write(tmp_path, [{"id": "0", "task": "t", **record}]))
    assert found == ([], {problem: 1})


def test_every_source_takes_one_answer_of_a_list_as_told(write: Write, tmp_path: Path) -> None:
    record = {"id": "0", "task": "t", "question": "Q?", "answer": ["red", "blue", "blue"]}
    path = write(tmp_path, [record])
    assert read(tmp_path, path, answer_lists="first") == (["Q?red"], {})
    assert read(tmp_path, path, answer_lists="most_common") == (["Q?blue"], {})


def test_every_source_takes_a_null_image_as_text_only(write: Write, tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]
    shown = [{"from": "human", "value": "<image>\nQ?"}, {"from": "gpt", "value": "A"}]
    records: list[Record] = [
        {"id": "0", "task": "t", "conversations": shown},
        {"id": "1", "task": "t", "conversations": turns, "image": None},
    ]
    where = source(write(tmp_path, records), unpacked=tmp_path / "unpacked")
    counts = build_pool(where, tmp_path / "out")
    assert (counts.pool, counts.text_only, counts.problems) == (1, 1, 0)


@pytest.mark.parametrize(
    ("given", "image"),
    [
        ({"images": ["a.png"]}, "a.png"),
        ({"image": ["a.png"]}, "a.png"),
        ({"images": [{"bytes": None, "path": "a.png"}]}, "a.png"),
        ({"messages": chat([{"type": "image", "image": "a.png"}])}, "a.png"),
        ({"images": []}, None),
        ({"image": None, "images": None}, None),
    ],
)
def test_adopted_finds_the_one_image(given: Record, image: str | None) -> None:
    assert adopted(given).get("image") == image


def test_dataset_with_a_list_of_images_is_read(tmp_path: Path) -> None:
    """FineVision's columns; a row with two images is listed."""
    image = {"bytes": picture(0), "path": None}
    texts = [{"user": "Q?", "assistant": "A"}]
    rows = {"images": [[image], [image, image], []], "texts": [texts] * 3, "task": ["t"] * 3}
    kinds = {
        "images": [datasets.Image()],
        "texts": [{"user": datasets.Value("string"), "assistant": datasets.Value("string")}],
        "task": datasets.Value("string"),
    }
    data = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
    data.to_parquet(tmp_path / "a.parquet")
    where = source(str(tmp_path / "a.parquet"), unpacked=tmp_path / "unpacked")
    counts = build_pool(where, tmp_path / "out")
    assert (counts.pool, counts.text_only, counts.by_problem) == (1, 1, {"several_images": 1})


def test_pool_without_a_task_is_one_task_with_a_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = as_json(tmp_path, [{"id": str(n), "messages": chat(f"{n}?")} for n in range(6)])
    arguments = ["select", "--config", "quickstart.yaml", "--selector", "Random"]
    arguments += ["--data.annotations", path, "--out", str(tmp_path / "run")]
    assert main([*arguments, "--data.budget", "2"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "one task, 'a'; data.task_key" in told and "data.task_rules" in told
    assert main([*arguments, "--data.task_key", "kind"]) == 2
    assert "data.task_key is 'kind'" in " ".join(capsys.readouterr().err.split())


def test_list_as_task_is_a_problem(tmp_path: Path) -> None:
    tasks = ["a", ["a", "b"], {"a": 1}, 7]
    path = as_json(tmp_path, [{"id": str(n), "task": t} for n, t in enumerate(tasks)])
    where = source(path)
    assert build_pool(where, tmp_path / "out").by_problem == {"bad_task": 2}
    assert load_pool(tmp_path / "out", tmp_path).tasks == ("7", "a")


@pytest.mark.parametrize("said", [3.5, 7, "hi", {"from": "human"}])
def test_conversations_that_are_no_list_are_a_problem_beside_images(
    said: object, tmp_path: Path
) -> None:
    record = {"id": 1, "images": ["1.png"], "task": "a", "conversations": said}
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    (tmp_path / "a.json").write_text(json.dumps([record]))
    counts = build_pool(source(str(tmp_path / "a.json")), tmp_path / "out")
    assert (counts.pool, counts.by_problem) == (0, {"conversations_not_a_list": 1})
