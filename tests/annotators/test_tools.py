"""Label Studio and FiftyOne: what is given out, and what comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from presel_lightning.annotators import FiftyOne, LabelStudio
from presel_lightning.errors import UserError
from tests.annotators.conftest import Make
from tests.annotators.names import conversation
from tests.optional import require


def textarea(name: str, *text: str) -> dict[str, Any]:
    entry = {"from_name": name, "to_name": "image", "type": "textarea", "origin": "manual"}
    return {**entry, "id": name, "value": {"text": list(text)}}


def annotated(task: dict[str, Any], *answers: str, **facts: Any) -> dict[str, Any]:
    result = []
    for number, answer in enumerate(answers, start=1):
        suffix = "" if number == 1 else f"_{number}"
        result += [textarea(f"answer{suffix}", answer), textarea(f"question{suffix}", "What?")]
    return {**task, "id": 7, "annotations": [{"was_cancelled": False, "result": result, **facts}]}


def test_label_studio_round_trip_keeps_every_answer(make: Make, tmp_path: Path) -> None:
    requests, names = make(6)
    out, export = tmp_path / "out", tmp_path / "export.json"
    names.image[0] = "a b/ü.png"
    tool = LabelStudio(str(export), turns=2)
    waiting = tool.annotate(requests[:4], out, names)
    assert len(waiting.missing) == 4 and "batch-1/tasks.json" in waiting.notes[0]
    batch = out / "label_studio" / "batch-1"
    tasks = json.loads((batch / "tasks.json").read_text())
    assert [task["data"]["uid"] for task in tasks] == [request.uid for request in requests[:4]]
    assert tasks[1]["data"]["image"] == "/data/local-files/?d=1.png"
    assert tasks[1]["data"]["prompt"] == "prompt of caption"
    form = ElementTree.parse(batch / "config.xml").getroot()
    areas = [area.get("name") for area in form.iter("TextArea")]
    assert areas == ["question", "answer", "question_2", "answer_2"]
    used = {element.get("value") for element in form.iter()} | {""}
    assert {"$image", "$prompt"} <= used and {"image", "prompt"} <= set(tasks[0]["data"])

    older = annotated(tasks[0], "older", updated_at="2025-01-01")
    newer = annotated(tasks[0], "newer", updated_at="2025-02-01")
    skipped = annotated(tasks[0], "skipped", updated_at="2025-03-01", was_cancelled=True)
    merged = [a for task in (older, newer, skipped) for a in task["annotations"]]
    export.write_text(
        json.dumps(
            [
                {**older, "annotations": merged},
                annotated(tasks[1], "one", "two"),
                {**tasks[2], "annotations": []},
                annotated(tasks[3], " "),
            ]
        )
    )
    answers = tool.annotate(requests, out, names)
    first = conversation("newer", "<image>\nWhat?")
    both = [*conversation("one", "<image>\nWhat?"), *conversation("two", "What?")]
    assert answers.conversations == {requests[0].uid: first, requests[1].uid: both}
    assert [problem.problem for problem in answers.problems] == ["empty_answer"]
    # the new ones in a batch of their own, and no image in two
    assert [("batch-1" in n, "batch-2" in n) for n in answers.notes] == [
        (True, False),
        (False, True),
    ]
    tasks = json.loads((out / "label_studio" / "batch-2" / "tasks.json").read_text())
    assert [task["data"]["uid"] for task in tasks] == [request.uid for request in requests[4:]]


def test_label_studio_sdk_validates_config_and_tasks(make: Make, tmp_path: Path) -> None:
    interface = require("label_studio_sdk.label_interface")
    requests, names = make(2)
    LabelStudio(turns=2).annotate(requests, tmp_path / "out", names)
    batch = tmp_path / "out" / "label_studio" / "batch-1"
    form = interface.LabelInterface((batch / "config.xml").read_text())
    form.validate()  # raises
    assert {area.name for area in form.controls} == {"question", "answer", "question_2", "answer_2"}
    tasks = json.loads((batch / "tasks.json").read_text())
    assert all(form.validate_task(task) for task in tasks)
    assert not form.validate_task({"data": {"uid": "a"}})
    # the exports that the test above reads are of its making too
    (annotation,) = annotated(tasks[0], "one", "two")["annotations"]
    assert form.validate_annotation(annotation)
    annotation["result"][0]["from_name"] = "no such area"
    assert not form.validate_annotation(annotation)


def test_fiftyone_round_trip_keeps_every_answer(make: Make, tmp_path: Path) -> None:
    requests, names = make(3)
    out, export = tmp_path / "out", tmp_path / "export"
    tool = FiftyOne(str(export), turns=2)
    waiting = tool.annotate(requests[:2], out, names)
    assert "fiftyone/batch-1" in waiting.notes[0]
    batch = out / "fiftyone" / "batch-1"
    samples = json.loads((batch / "samples.json").read_text())["samples"]
    # no `version`: FiftyOne then reads the samples by Sample.from_dict
    assert json.loads((batch / "metadata.json").read_text()) == {"media_type": "image", "info": {}}
    assert samples[0]["filepath"] == str(requests[0].path.resolve())
    assert (samples[0]["question"], samples[0]["answer_2"]) == ("", "")
    export.mkdir()
    samples[0] |= {"question": "What?", "answer": "This.", "_id": {"$oid": "1"}, "filepath": "x"}
    samples[0] |= {"question_2": "Why?", "answer_2": "So."}
    samples[1] |= {"question": None, "answer": "This."}
    (export / "samples.json").write_text(json.dumps({"samples": samples}))
    answers = tool.annotate(requests, out, names)
    told = [*conversation("This.", "<image>\nWhat?"), *conversation("So.", "Why?")]
    assert answers.conversations == {requests[0].uid: told}
    assert [(p.uid, p.problem) for p in answers.problems] == [(requests[1].uid, "empty_question")]
    new = json.loads((out / "fiftyone" / "batch-2" / "samples.json").read_text())["samples"]
    assert [sample["uid"] for sample in new] == [requests[2].uid]
    done = FiftyOne().annotate(requests[:1], out, names)
    assert not done.missing and not done.notes


@pytest.mark.parametrize("tool", [LabelStudio, FiftyOne])
@pytest.mark.parametrize("text", ['[{"uid": "a", "question": "What?"}]', "[1]", "nothing"])
def test_export_in_another_format_raises_user_error(
    tool: type[LabelStudio | FiftyOne], text: str, make: Make, tmp_path: Path
) -> None:
    requests, names = make(1)
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(UserError, match=r"export\.json"):
        tool(str(tmp_path / "export.json")).annotate(requests, tmp_path / "out", names)
