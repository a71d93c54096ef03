from __future__ import annotations

import json
from pathlib import Path

from presel_lightning.annotators import FromPool
from tests.annotators.conftest import Make
from tests.annotators.names import PoolNames, conversation


def write_pool(path: Path, names: PoolNames) -> None:
    """Every sample of the pool with its instruction; the last two are the same but for the task."""
    names.image[-1], names.id[-1] = names.image[-2], names.id[-2]
    rows = zip(names.id, names.image, names.task, strict=True)
    path.write_text(
        json.dumps(
            [
                {
                    "id": i,
                    "image": image,
                    "task": task,
                    "conversations": conversation(f"{i} {task}"),
                }
                for i, image, task in rows
            ]
        )
    )


def test_from_pool_reveals_and_logs_each_request_once(make: Make, tmp_path: Path) -> None:
    requests, names = make(6)
    write_pool(tmp_path / "all.json", names)
    out = tmp_path / "out"
    hidden = FromPool(str(tmp_path / "all.json"))
    first = hidden.annotate(requests[:4], out, names)
    (out / "answers.jsonl").write_text("")  # killed after the log was written
    both = hidden.annotate(requests, out, names)
    again = hidden.annotate(requests, out, names)
    assert first.conversations[requests[1].uid] == conversation("id-1 caption")
    assert again.conversations == both.conversations and not both.missing and not both.problems
    log = [json.loads(line) for line in (out / "access.jsonl").read_text().splitlines()]
    assert [entry["uid"] for entry in log] == [request.uid for request in requests]
    assert log[0] == {
        "uid": requests[0].uid,
        "image": "0.png",
        "task": "vqa",
        "why": "reference split",
    }
    answered = {json.loads(line)["uid"] for line in (out / "answers.jsonl").open()}
    assert answered == {entry["uid"] for entry in log}


def test_from_pool_equal_image_and_id_are_matched_by_task(make: Make, tmp_path: Path) -> None:
    requests, names = make(1)
    write_pool(tmp_path / "all.json", names)  # two samples, both of 0.png
    answers = FromPool([str(tmp_path / "all.json")]).annotate(requests, tmp_path / "out", names)
    assert answers.conversations == {requests[0].uid: conversation("id-0 vqa")}


def test_from_pool_missing_samples_are_listed(make: Make, tmp_path: Path) -> None:
    requests, names = make(2)
    (tmp_path / "a.json").write_text(json.dumps([{"image": "9.png", "conversations": []}]))
    answers = FromPool(str(tmp_path / "a.json")).annotate(requests, tmp_path / "out", names)
    assert [problem.problem for problem in answers.problems] == ["not_found"] * 2
    assert (tmp_path / "out" / "access.jsonl").read_text() == ""


def test_from_pool_record_without_question_is_accepted(make: Make, tmp_path: Path) -> None:
    requests, names = make(1)
    bare = conversation("A dog.", "<image>")
    (tmp_path / "a.json").write_text(json.dumps([{"image": "0.png", "conversations": bare}]))
    answers = FromPool(str(tmp_path / "a.json")).annotate(requests, tmp_path / "out", names)
    assert answers.conversations == {requests[0].uid: bare} and not answers.problems
