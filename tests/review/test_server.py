"""The server by HTTP: what it answers, what it refuses, what lies on the disk afterwards."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection, HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from filelock import FileLock
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.review.server import ReviewServer
from tests.review.runs import BUDGET, N, lines, select, selected, serving, write_large

JSON = {"Content-Type": "application/json"}


def send(
    server: ReviewServer, method: str, path: str, body: Any = None, **headers: str
) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=120)
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, content, {**(JSON if body is not None else {}), **names})
    reply = connection.getresponse()
    read = reply.read()
    connection.close()
    return reply, read


def ask(server: ReviewServer, name: str, body: Any = None) -> Any:
    method = "GET" if body is None else "POST"
    reply, content = send(server, method, f"/{server.token}/{name}", body)
    assert reply.status == 200, content
    return json.loads(content)


def test_lists_hold_every_selected_image_once_best_first(tmp_path: Path) -> None:
    write_large(tmp_path)
    with serving(tmp_path) as server:
        found: list[dict[str, Any]] = []
        page = ask(server, "items?show=selected")
        assert page["total"] == 7500
        while page["items"]:
            assert page["first"] == len(found) and len(page["items"]) <= 60
            found += page["items"]
            page = ask(server, f"items?show=selected&start={found[-1]['place'] + 1}")
        assert {item["uid"] for item in found} == set(selected(tmp_path)) and len(found) == 7500
        order = [(i["task"], i["kind"] != "selected", -(i["score"] or 0)) for i in found]
        assert order == sorted(order)
        back = ask(server, f"items?show=selected&before={found[120]['place']}")
        assert back["items"] == found[60:120] and back["first"] == 60
        some = ask(server, "items?show=left_out&task=task-3&find=images/5.jpg")
        assert {(i["task"], i["image"], i["kind"]) for i in some["items"]} == {
            ("task-3", "images/5.jpg", "left out")
        }
        by_uid = ask(server, f"items?show=selected&find={found[7]['uid'].upper()}")
        assert by_uid["items"] == [found[7]]
        assert ask(server, "items?show=selected&task=unknown")["items"] == []
        state = ask(server, "state")
        assert state["waiting"] == 7500 == sum(task["waiting"] for task in state["tasks"])


def test_decision_and_answer_are_on_disk_when_the_reply_comes(run: Path, waiting: Path) -> None:
    before = selected(run)
    vetoed, answered, twice = list(before)[:3]
    with serving(run) as server:
        (pinned,) = ask(server, "items?show=left_out")["items"][:1]
        assert ask(server, "decide", {"uid": vetoed, "decision": "veto"})["decision"] == "veto"
        ask(server, "decide", {"uid": pinned["uid"], "decision": "pin"})
        ask(server, "decide", {"uid": twice, "decision": "veto"})
        ask(server, "decide", {"uid": twice, "decision": "none"})
        journal = lines(run / "review.jsonl")
        assert [record["uid"] for record in journal] == [vetoed, pinned["uid"], twice, twice]
        assert journal[0] == {
            "uid": vetoed,
            "decision": "veto",
            "task": before[vetoed].split("/")[0],
            "image": before[vetoed],
        }
        turns = [
            {"question": " What is it? ", "answer": "Noise."},
            {"question": "B?", "answer": "C"},
        ]
        assert ask(server, "answer", {"uid": answered, "turns": turns})["waits"] is False
        (record,) = lines(run / "annotations" / "answers.jsonl")
        assert record["uid"] == answered and record["annotator"] == "Review"
        assert record["conversations"][0] == {"from": "human", "value": "<image>\nWhat is it?"}  # type: ignore[index]
        state = ask(server, "state")
        assert (state["vetoed"], state["pinned"], state["waiting"]) == (1, 1, BUDGET - 2)
        detail = ask(server, f"item?uid={answered}")
        assert detail["turns"] == [["What is it?", "Noise."], ["B?", "C"]] and detail["editable"]
        # the run selects again while the page is open, and the page shows it
        assert select(waiting / "photos", run) == 3
        after = selected(run)
        assert len(after) == BUDGET and pinned["uid"] in after and vetoed not in after
        assert len(set(before) - set(after)) <= 2
        now = {item["uid"] for item in ask(server, "items?show=selected")["items"]}
        assert now == set(after)
        left = {record["uid"] for record in lines(run / "selection" / "requests.jsonl")}
        assert left == set(after) - {answered}
        assert ask(server, f"item?uid={answered}")["editable"]  # what was written may be mended


def test_select_finishes_when_all_instructions_are_typed(run: Path, waiting: Path) -> None:
    with serving(run) as server:
        for uid, image in selected(run).items():
            turns = [{"question": "Which file?", "answer": image}]
            ask(server, "answer", {"uid": uid, "turns": turns})
        assert ask(server, "items?show=waiting")["items"] == []
    assert select(waiting / "photos", run) == 0  # without an annotator
    for record in json.loads((run / "selection" / "selected.json").read_text()):
        assert record["conversations"][1] == {"from": "gpt", "value": record["image"]}


def test_images_are_made_on_demand(run: Path) -> None:
    uid = next(iter(selected(run)))
    with serving(run) as server:
        for query, size in (("", (80, 60)), ("&full", (80, 60))):
            reply, content = send(server, "GET", f"/{server.token}/image?uid={uid}{query}")
            assert reply.headers["Content-Type"] == "image/webp"
            assert Image.open(BytesIO(content)).size == size
        for wrong in ("uid=x", f"uid={uid}&n=1", "n=0"):
            reply, _ = send(server, "GET", f"/{server.token}/image?{wrong}")
            assert reply.status == 404


@pytest.mark.parametrize(
    "host", ["example.org", "127.0.0.1.example.org:80", "x@127.0.0.1:80", "127.0.0.1:x", ""]
)
def test_request_under_another_name_is_refused(run: Path, host: str) -> None:
    """A page of another site whose name leads here gets nothing (DNS rebinding)."""
    with serving(run) as server:
        reply, content = send(server, "GET", f"/{server.token}/state", Host=host)
        assert reply.status in (400, 421) and b"task" not in content
        reply, _ = send(server, "GET", f"/{server.token}/state", Host="localhost:9000")
        assert reply.status == 200  # through a tunnel


def test_request_without_the_secret_is_refused(run: Path) -> None:
    uid = next(iter(selected(run)))
    with serving(run) as server:
        for token in ("", "x", server.token[:-1], server.token + "x", "%C3%A9"):
            for name in ("", "state", "page.js", f"image?uid={uid}"):
                reply, content = send(server, "GET", f"/{token}/{name}")
                assert reply.status == 404 and b"signs" not in content
        path, body = "/x/decide", {"uid": uid, "decision": "veto"}
        assert send(server, "POST", path, body)[0].status == 404
        assert lines(run / "review.jsonl") == []


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (415, b"{}", {"Content_Type": "text/plain"}),
        (415, b"uid=x", {"Content_Type": "application/x-www-form-urlencoded"}),
        (403, None, {"Origin": "http://example.org"}),
        (403, None, {"Origin": "null"}),
        (403, None, {"Origin": "http://127.0.0.1:1"}),
        (403, None, {"Origin": "http://127.0.0.1:1", "Host": "localhost:1"}),
        (413, b" " * ((1 << 20) + 1), {}),
        (400, b"[]", {}),
        (400, b"{", {}),
        (400, b'{"uid": 3, "decision": "veto"}', {}),
        (404, b'{"uid": "unknown", "decision": "veto"}', {}),
        (409, b'{"uid": "UID", "decision": "burn"}', {}),
    ],
)
def test_post_that_is_not_of_the_page_is_refused(
    run: Path, status: int, body: bytes | None, headers: dict[str, str]
) -> None:
    uid = next(iter(selected(run)))
    good = json.dumps({"uid": uid, "decision": "veto"}).encode()
    content = good if body is None else body.replace(b"UID", uid.encode())
    with serving(run) as server:
        reply, said = send(server, "POST", f"/{server.token}/decide", content, **headers)
        assert reply.status == status and json.loads(said)["error"]
        assert lines(run / "review.jsonl") == []
        assert send(server, "POST", f"/{server.token}/decide", good)[0].status == 200


def test_refusal_is_read_by_a_browser_that_still_sends(run: Path) -> None:
    with serving(run) as server:
        head = f"POST /x/decide HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 24}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=120) as connection:
            connection.sendall(head.encode() + b" " * 5)
            connection.recv(1, socket.MSG_PEEK)  # the reply is on its way
            connection.sendall(b" " * ((1 << 24) - 5))
            connection.shutdown(socket.SHUT_WR)
            reply = HTTPResponse(connection)
            reply.begin()
            assert reply.status == 404 and json.loads(reply.read())["error"]


@pytest.mark.parametrize(
    "turns",
    [[], [{"question": "", "answer": "a"}], [{"question": "q", "answer": " "}], [{"question": "q"}],
     [{"question": "q", "answer": "a" * 30_000}], "text"],
)  # fmt: skip
def test_answer_that_is_no_instruction_is_refused(run: Path, turns: Any) -> None:
    uid = next(iter(selected(run)))
    with serving(run) as server:
        path = f"/{server.token}/answer"
        reply, said = send(server, "POST", path, {"uid": uid, "turns": turns})
        assert reply.status in (400, 404, 409) and json.loads(said)["error"]
        assert lines(run / "annotations" / "answers.jsonl") == []


def test_answer_nobody_asks_for_is_refused(run: Path) -> None:
    with serving(run) as server:
        page = ask(server, "items?show=left_out")
        assert page["total"] == 2 * N - BUDGET
        body = {"uid": page["items"][0]["uid"], "turns": [{"question": "q", "answer": "a"}]}
        reply, said = send(server, "POST", f"/{server.token}/answer", body)
        assert reply.status == 409 and b"none is asked for" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: (run / "run.json").unlink(), "no run.json there"),
        (lambda run: [(run / "selection" / n).unlink() for n in ("selection.parquet", "requests.jsonl")], "no selection there yet"),
        (lambda run: (run / "review.jsonl").write_text("x\n"), "line 1: not a decision"),
    ],
    ids=["no run", "no selection", "journal"],
)  # fmt: skip
def test_review_of_unusable_folder_exits_with_2(
    run: Path, change: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run)
    assert main(["review", "--run", str(run)]) == 2
    assert message in capsys.readouterr().err


def test_review_invalid_options_exit_with_2(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", "--run", str(run), "--image_root", "nowhere"]) == 2
    assert "--image_root nowhere: no such folder" in capsys.readouterr().err
    assert main(["review", "--run", str(run), "--port", "70000"]) == 2
    assert "0 to 65535" in capsys.readouterr().err
    with serving(run) as server:
        assert main(["review", "--run", str(run), "--port", str(server.server_port)]) == 2
    assert "give another, or 0" in capsys.readouterr().err
    cell = tmp_path / "PreSel-0.15-0"
    cell.mkdir()
    for name in ("run.json", "cell.yaml"):
        (cell / name).write_text("{}")
    assert main(["review", "--run", str(cell)]) == 2
    assert "a cell of `compare`" in capsys.readouterr().err


def test_review_before_the_selection_lists_the_reference_split(
    waiting: Path, tmp_path: Path
) -> None:
    more = ["--data.always_reference", "true", "--data.reference", "6"]
    out = tmp_path / "run"
    assert select(waiting / "photos", out, *more) == 3
    requests = lines(out / "selection" / "requests.jsonl")
    (out / "selection" / "selection.parquet").unlink()  # as a selector that reads the split has it
    listed = [r for r in requests if r["why"] == "reference split"] or requests[:6]
    text = "".join(json.dumps({**r, "why": "reference split"}) + "\n" for r in listed)
    (out / "selection" / "requests.jsonl").write_text(text)
    with serving(out) as server:
        found = ask(server, "items?show=waiting")["items"]
        assert {item["uid"] for item in found} == {record["uid"] for record in listed}
        assert {item["kind"] for item in found} == {"reference"}


def test_review_starts_and_ends_without_torch(run: Path) -> None:
    """The command itself, in a process of its own, ended by Ctrl-C."""
    code = (
        "import sys; from presel_lightning.cli.main import main; code = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    arguments = [sys.executable, "-c", code, "review", "--run", str(run)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[1]
        with urlopen(address) as page:
            assert b"<h1>Review" in page.read()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=300)[0]
    finally:
        process.kill()
    assert process.returncode == 0 and "12 images wait for one" in said


def test_open_session_waits_for_a_run_that_works_there(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("presel_lightning.run.lock.LEAVING", 0.1)
    with FileLock(run / ".lock"):
        assert main(["review", "--run", str(run)]) == 2
    assert "another process works there" in capsys.readouterr().err
