"""Requests about several images: all are shown, and an answer about them has a place for each."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from presel_lightning.annotators import FiftyOne, FromFile, LabelStudio
from presel_lightning.annotators.base import Request, requests_for
from presel_lightning.annotators.matching import all_shown
from presel_lightning.annotators.replies import conversation_of
from presel_lightning.annotators.wire import image_url, messages
from presel_lightning.cli.main import main
from presel_lightning.data import build_pool, load_pool, source
from tests.annotators.asked import annotator
from tests.annotators.names import PoolNames, conversation
from tests.annotators.server import serving

TWICE = "<image>\n<image>\nWhat?"


def written(folder: Path) -> str:
    for number in range(3):
        Image.new("RGB", (8, 8), (number * 80, 0, 0)).save(folder / f"{number}.png")
    records = [
        {"id": "two", "image": ["0.png", "1.png"], "task": "t"},
        {"id": "one", "image": "2.png", "task": "t"},
    ]
    (folder / "a.json").write_text(json.dumps(records))
    return str(folder / "a.json")


@pytest.fixture
def asked(tmp_path: Path) -> tuple[list[Request], PoolNames]:
    build_pool(source(written(tmp_path), several_images="keep"), tmp_path / "pool")
    pool = load_pool(tmp_path / "pool", tmp_path)
    found = requests_for(pool, pool.uid, "selected")
    return sorted(found, key=lambda r: r.id), PoolNames(pool.uid, pool.id, pool.image, pool.task)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("<image>\nWhat?", TWICE),
        ("What?", TWICE),
        ("This <image> and this <image>", "This <image> and this <image>"),
        ("<image><image><image>", "<image><image><image>"),
    ],
)
def test_answer_shows_all_images_where_it_places_none(question: str, expected: str) -> None:
    given = [*conversation("A", question), *conversation("B", "And?")]
    found = all_shown(given, 2)
    assert [turn["value"] for turn in found] == [expected, "A", "And?", "B"]
    assert all_shown(given, 1) is given and all_shown("text", 2) == "text"


def test_reply_about_several_images_is_valid() -> None:
    turns = {"turns": [{"question": "What?", "answer": "A"}]}
    reply = {"choices": [{"message": {"content": json.dumps(turns)}, "finish_reason": "stop"}]}
    assert conversation_of(reply, ["a", "b"])[0]["value"] == TWICE
    sent: list[dict[str, Any]] = messages("P", "data:1", "data:2")[1]["content"]
    assert [part.get("image_url", {}).get("url") for part in sent] == ["data:1", "data:2", None]


def test_request_carries_all_images(asked: tuple[list[Request], PoolNames]) -> None:
    one, two = asked[0]
    assert (one.images, two.images) == (["2.png"], ["0.png", "1.png"])
    assert [path.name for path in two.paths] == two.images
    assert two.record()["images"] == two.images and "images" not in one.record()
    assert len({image_url(path, 8, 90) for path in (*one.paths, *two.paths)}) == 3


def test_label_studio_shows_the_list_and_fiftyone_lists_a_problem(
    asked: tuple[list[Request], PoolNames], tmp_path: Path
) -> None:
    requests, names = asked
    LabelStudio(image_prefix="x/").annotate(requests, tmp_path / "out", names)
    (batch,) = (tmp_path / "out" / "label_studio").glob("batch-*")
    tasks = {t["data"]["uid"]: t["data"] for t in json.loads((batch / "tasks.json").read_text())}
    shown = [tasks[request.uid]["images"] for request in requests]
    assert shown == [["x/2.png"], ["x/0.png", "x/1.png"]]
    assert 'valueList="$images"' in (batch / "config.xml").read_text()
    answers = FiftyOne().annotate(requests, tmp_path / "other", names)
    assert [(p.uid, p.problem) for p in answers.problems] == [(requests[1].uid, "several_images")]
    (batch,) = (tmp_path / "other" / "fiftyone").glob("batch-*")
    samples = json.loads((batch / "samples.json").read_text())["samples"]
    assert [sample["uid"] for sample in samples] == [requests[0].uid]


def test_server_is_sent_all_images_in_order(
    asked: tuple[list[Request], PoolNames], tmp_path: Path
) -> None:
    requests, names = asked
    with serving() as server:
        found = annotator(server).annotate(requests[1:], tmp_path / "out", names)
        (body,) = server.bodies
    *shown, text = body["messages"][1]["content"]
    expected = [image_url(path, 1024, 90) for path in requests[1].paths]
    assert [opened(part["image_url"]["url"]) for part in shown] == list(map(opened, expected))
    assert text["type"] == "text"
    assert found.conversations[requests[1].uid][0]["value"].startswith("<image>\n<image>\nWhat")


def opened(url: str) -> tuple[int, ...]:
    content = base64.b64decode(url.split(",", 1)[1])
    pixel = Image.open(io.BytesIO(content)).getpixel((0, 0))
    return tuple(round(value / 40) for value in pixel)  # type: ignore[union-attr]


def test_file_of_answers_by_image_and_by_list(
    asked: tuple[list[Request], PoolNames], tmp_path: Path
) -> None:
    requests, names = asked
    answers = [
        {"image": ["0.png", "1.png"], "conversations": conversation("A")},
        {"image": "2.png", "conversations": conversation("B")},
    ]
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    found = FromFile(str(tmp_path / "answers.json")).annotate(requests, tmp_path / "out", names)
    assert not found.problems and not found.missing
    assert found.conversations[requests[1].uid][0]["value"] == TWICE


def test_select_asks_for_all_images_and_takes_the_answer(tmp_path: Path) -> None:
    path = written(tmp_path)
    arguments = ["select", "--config", "quickstart.yaml", "--selector", "Random"]
    arguments += ["--data.annotations", path, "--data.several_images", "keep"]
    arguments += ["--data.budget", "2", "--out", str(tmp_path / "run")]
    assert main(arguments) == 3
    lines = (tmp_path / "run" / "selection" / "requests.jsonl").read_text().splitlines()
    asked = {record["image"]: record for record in map(json.loads, lines)}
    assert asked["0.png"]["images"] == ["0.png", "1.png"] and "images" not in asked["2.png"]
    rows = [f"{record['uid']},What?,A" for record in asked.values()]
    (tmp_path / "a.csv").write_text("\n".join(["uid,question,answer", *rows]))
    given = ["--annotator", "FromFile", "--annotator.path", str(tmp_path / "a.csv")]
    assert main([*arguments, *given]) == 0
    chosen = json.loads((tmp_path / "run" / "selection" / "selected.json").read_text())
    texts = {record["id"]: record["conversations"][0]["value"] for record in chosen}
    assert texts == {"two": TWICE, "one": "<image>\nWhat?"}
    assert np.all([len(record["image"]) for record in chosen])
