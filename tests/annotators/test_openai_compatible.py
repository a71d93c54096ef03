from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from presel_lightning.annotators import Answers, FromFile, OpenAICompatible, Request
from presel_lightning.annotators.wire import SCHEMA
from presel_lightning.errors import UserError
from tests.annotators.conftest import Make
from tests.annotators.names import PoolNames
from tests.annotators.server import KEY, USAGE, ChatServer, Reply, completion, good, serving

PRICES = {"price_per_million_input_tokens": 2.0, "price_per_million_output_tokens": 10.0}
COST = (USAGE["prompt_tokens"] * 2.0 + USAGE["completion_tokens"] * 10.0) / 1e6


def annotator(server: ChatServer, **options: Any) -> OpenAICompatible:
    return OpenAICompatible(server.url, "tiny", **{"backoff": 0.01, **PRICES, **options})


def ledger(out: Path) -> list[dict[str, str]]:
    with (out / "ledger.csv").open() as handle:
        return list(csv.DictReader(handle))


def spent(out: Path) -> float:
    return sum(float(row["cost"] or 0) for row in ledger(out))


def problems(answers: Answers) -> dict[str, str]:
    return {problem.image: problem.problem for problem in answers.problems}


def test_second_run_requests_and_charges_only_missing_answers(make: Make, tmp_path: Path) -> None:
    requests, names = make(20)
    out = tmp_path / "out"
    with serving(seconds=0.02) as server:
        first = annotator(server, concurrency=4).annotate(requests[:12], out, names)
        again = annotator(server, concurrency=4).annotate(requests, out, names)
    assert not first.problems and not again.missing and not again.notes
    assert again.conversations[requests[3].uid] == [
        {"from": "human", "value": "<image>\nWhat is image-3?"},
        {"from": "gpt", "value": "It is image-3."},
    ]
    assert set(server.asked.values()) == {1} and len(server.asked) == 20
    assert 1 < server.most <= 4
    assert server.keys == {f"Bearer {KEY}"}
    assert len(ledger(out)) == 20 and spent(out) == pytest.approx(20 * COST)
    assert again.cost == pytest.approx(20 * COST)


def test_request_body_holds_schema_limits_and_options(make: Make, tmp_path: Path) -> None:
    requests, names = make(1)
    with serving() as server:
        options: dict[str, Any] = {"temperature": 0.5, "extra_body": {"seed": 3}}
        annotator(server, **options).annotate(requests, tmp_path / "a", names)
        plain = annotator(server, response_format="none", max_tokens_key="max_completion_tokens")
        plain.annotate(requests, tmp_path / "b", names)
    rich, bare = server.bodies
    assert rich["response_format"]["json_schema"]["schema"] == SCHEMA
    assert (rich["model"], rich["temperature"], rich["seed"]) == ("tiny", 0.5, 3)
    assert rich["max_tokens"] == bare["max_completion_tokens"] == 1024
    assert "response_format" not in bare and "temperature" not in bare
    assert rich["messages"][1]["content"][1]["text"] == "prompt of vqa"


def test_failed_replies_are_retried_then_listed_as_problems(make: Make, tmp_path: Path) -> None:
    """500 once, malformed once, always malformed, cut off, refused, rejected, an empty answer."""
    empty = {"turns": [{"question": "What?", "answer": " "}]}
    faults: dict[str, tuple[int, Reply]] = {
        "image-1": (1, (500, "oops", {})),
        "image-2": (1, completion("Sure! Here is a question")),
        "image-3": (99, completion("no JSON at all")),
        "image-4": (99, completion({"turns": []}, finish="length")),
        "image-5": (99, completion("I cannot", finish="content_filter")),
        "image-6": (99, (400, {"error": {"message": "image is too large"}}, {})),
        "image-7": (99, completion(empty)),
        "image-8": (1, (200, "<html>", {})),
        "image-9": (1, completion({"turns": [{"question": "What?", "answer": "\ud800"}]})),
    }
    requests, names = make(10)

    def behave(name: str, number: int) -> Reply | None:
        times, reply = faults.get(name, (0, good(name)))
        return reply if number <= times else None

    out = tmp_path / "out"
    with serving(behave) as server:
        answers = annotator(server, max_retries=2).annotate(requests, out, names)
    assert problems(answers) == {
        "3.png": "malformed",
        "4.png": "malformed",
        "5.png": "refused",
        "6.png": "http_400",
        "7.png": "malformed",
    }
    details = " ".join(problem.detail for problem in answers.problems)
    assert "too large" in details and "max_tokens" in details and "answer 1 is empty" in details
    asked = [server.asked[f"image-{number}"] for number in range(10)]
    assert asked == [1, 2, 2, 3, 3, 1, 1, 3, 2, 2]
    assert len(answers.conversations) == 5 and len(answers.missing) == 5
    rows = ledger(out)
    assert len(rows) == sum(asked)
    # five answers, and malformed replies of 2, 3, 4, 5, 7 and 9; an error costs nothing
    assert spent(out) == pytest.approx((5 + 1 + 3 + 3 + 1 + 3 + 1) * COST)
    listed = list(csv.DictReader((out / "problems.csv").open()))
    assert [row["uid"] for row in listed] == [problem.uid for problem in answers.problems]


def test_slow_reply_times_out_and_is_requested_again(make: Make, tmp_path: Path) -> None:
    requests, names = make(3)

    def behave(name: str, number: int) -> Reply | None:
        time.sleep(1.5 if name == "image-1" and number == 1 else 0.0)
        return None

    with serving(behave) as server:
        answers = annotator(server, timeout=0.4).annotate(requests, tmp_path / "out", names)
    assert not answers.missing and server.asked["image-1"] == 2
    assert [r["status"] for r in ledger(tmp_path / "out")].count("timeout") == 1


def test_rate_limit_delays_requests_by_retry_after(make: Make, tmp_path: Path) -> None:
    requests, names = make(6)
    limited: list[float] = []
    served: list[float] = []

    def behave(name: str, number: int) -> Reply | None:
        if not limited:
            limited.append(time.monotonic())
            return 429, {"error": {"message": "slow down"}}, {"Retry-After": "1"}
        served.append(time.monotonic())
        return None

    with serving(behave) as server:
        answers = annotator(server, concurrency=1).annotate(requests, tmp_path / "out", names)
    assert not answers.missing
    assert min(served) - limited[0] >= 1.0
    assert ledger(tmp_path / "out")[0]["status"] == "rate_limited"


def test_rate_limit_with_long_retry_after_stops_the_run(make: Make, tmp_path: Path) -> None:
    requests, names = make(6)
    with serving(lambda name, n: (429, {}, {"Retry-After": "3600"})) as server:
        answers = annotator(server, concurrency=1).annotate(requests, tmp_path / "out", names)
    assert sum(server.asked.values()) == 1
    assert answers.notes == ["stopped: the server asks to wait 3600 s; 6 images are left"]


def test_requests_per_minute_limits_the_request_rate(make: Make, tmp_path: Path) -> None:
    requests, names = make(4)
    times: list[float] = []

    def behave(name: str, number: int) -> None:
        times.append(time.monotonic())

    with serving(behave) as server:
        quick = annotator(server, requests_per_minute=300)
        start = time.monotonic()
        assert not quick.annotate(requests, tmp_path / "out", names).missing
    assert max(times) - start >= 0.6  # three gaps of 0.2 s


def test_max_cost_is_never_exceeded(make: Make, tmp_path: Path) -> None:
    requests, names = make(30)
    out = tmp_path / "out"
    with serving() as server:
        # nothing is known of the server's tokens yet, and an image may have many
        answers = annotator(server, max_cost=10 * COST).annotate(requests, out, names)
        assert not server.asked and "30 images are left" in answers.notes[0]
        annotator(server).annotate(requests[:1], out, names)
        # sent as long as half as many tokens again, and the longest answer, can be paid for
        cap = 10.5 * COST + 1500 * 2e-6 + 1024 * 10e-6
        for _ in range(2):
            answers = annotator(server, max_cost=cap).annotate(requests, out, names)
            assert sum(server.asked.values()) == 11 and len(answers.missing) == 19
            assert spent(out) == pytest.approx(11 * COST) and spent(out) <= cap
            assert "max_cost" in answers.notes[0] and "19 images are left" in answers.notes[0]
        assert not annotator(server, max_cost=1.0).annotate(requests, out, names).missing
    assert set(server.asked.values()) == {1}


def test_requests_waiting_at_max_cost_use_updated_cost_bound(make: Make, tmp_path: Path) -> None:
    """Before the first reply one request may cost 28; a reply lowers the bound to 3.5."""
    requests, names = make(20)
    dear = {"price_per_million_input_tokens": 1000.0, "price_per_million_output_tokens": 2000.0}
    with serving(seconds=0.02) as server:
        writer = annotator(server, max_cost=38, concurrency=8, **dear)
        answers = writer.annotate(requests, tmp_path / "out", names)
    assert not answers.missing and not answers.notes
    assert answers.cost == pytest.approx(20 * 1.1)


def test_reply_without_usage_is_charged_the_upper_bound(make: Make, tmp_path: Path) -> None:
    requests, names = make(1)
    turns = {"turns": [{"question": "What?", "answer": "That."}]}
    with serving(lambda name, n: completion(turns, usage=None)) as server:
        paid = annotator(server)
        bound = paid.estimate(requests, tmp_path / "out")
        answers = paid.annotate(requests, tmp_path / "out", names)
    assert answers.cost == bound and not answers.missing


def test_estimate_uses_mean_cost_once_replies_exist(make: Make, tmp_path: Path) -> None:
    requests, names = make(5)
    with serving() as server:
        paid = annotator(server)
        most = paid.estimate(requests, tmp_path / "out")
        paid.annotate(requests[:2], tmp_path / "out", names)
        mean = paid.estimate(requests[2:], tmp_path / "out")
        free = OpenAICompatible(server.url, "tiny")
    assert mean == pytest.approx(3 * COST) and most is not None and most > 5 * COST
    assert free.estimate(requests, tmp_path / "out") is None


@pytest.mark.parametrize("status", [401, 403, 404])
def test_rejected_key_or_model_raises_without_leaking_the_key(
    status: int, make: Make, tmp_path: Path
) -> None:
    requests, names = make(8)
    reply = {"error": {"message": f"no access with {KEY}"}}
    told = f"HTTP {status}.*api_key_env"
    with (
        serving(lambda name, n: (status, reply, {})) as server,
        pytest.raises(UserError, match=told) as caught,
    ):
        annotator(server, concurrency=2).annotate(requests, tmp_path / "out", names)
    sent = sum(server.asked.values())
    assert 1 <= sent <= 2 and KEY not in str(caught.value)
    rows = ledger(tmp_path / "out")
    assert [row["status"] for row in rows] == [f"http_{status}"] * sent
    listed = list(csv.DictReader((tmp_path / "out" / "problems.csv").open()))
    assert {row["uid"] for row in listed} == {row["uid"] for row in rows}


def test_server_down_stops_after_ten_consecutive_failures(make: Make, tmp_path: Path) -> None:
    requests, names = make(40)
    with serving(lambda name, n: (503, {"error": f"down {KEY}"}, {})) as server:
        one = annotator(server, max_retries=1, concurrency=1)
        answers = one.annotate(requests, tmp_path / "out", names)
    assert len(server.asked) == 10 and len(answers.problems) == 10
    assert "10 images in a row failed" in answers.notes[0]
    assert KEY not in answers.notes[0] and "***" in answers.notes[0]


def test_refused_images_do_not_stop_later_requests(make: Make, tmp_path: Path) -> None:
    requests, names = make(12)

    def behave(name: str, number: int) -> Reply | None:
        return None if name == "image-11" else completion("no", finish="content_filter")

    with serving(behave) as server:
        answers = annotator(server, concurrency=1).annotate(requests, tmp_path / "out", names)
    assert list(answers.conversations) == [requests[11].uid] and not answers.notes


def test_refused_images_are_retried_only_with_retry_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, names = make(4)
    out = tmp_path / "out"

    def behave(name: str, number: int) -> Reply | None:
        if number > 1 + (name == "image-2"):
            return None
        faults = {"image-1": ("no", "content_filter"), "image-2": ("no JSON", "stop")}
        return completion(*faults[name]) if name in faults else None

    with serving(behave) as server:
        first = annotator(server, max_retries=1)
        told = first.annotate(requests, out, names).problems
        assert "2 of them" in first.cure and "retry_refused" in first.cure
        with monkeypatch.context() as patch:  # nothing is sent, so that no key is needed
            patch.delenv("OPENAI_API_KEY")
            again = annotator(server, max_retries=1)
            answers = again.annotate(requests, out, names)
        assert answers.problems == told and again.cure == first.cure
        assert problems(answers) == {"1.png": "refused", "2.png": "malformed"}
        assert answers.cost == pytest.approx(5 * COST)
        assert again.estimate([requests[1], requests[2]], out) is None
        listed = list(csv.DictReader((out / "problems.csv").open()))
        assert [row["uid"] for row in listed] == [requests[1].uid, requests[2].uid]
        assert server.asked == {"image-0": 1, "image-1": 1, "image-2": 2, "image-3": 1}
        by_hand = tmp_path / "a.csv"
        by_hand.write_text("image,question,answer\n1.png,What?,A.\n")
        FromFile(str(by_hand)).annotate(requests, out, names)
        left = annotator(server)
        assert left.annotate(requests, out, names).missing == [requests[2].uid]
        assert "1 of them" in left.cure
        insist = annotator(server, retry_refused=True)
        assert not insist.annotate(requests, out, names).missing
    assert server.asked == {"image-0": 1, "image-1": 1, "image-2": 3, "image-3": 1}


def test_refused_image_is_requested_from_another_model(make: Make, tmp_path: Path) -> None:
    requests, names = make(1)
    with serving(
        lambda name, n: completion("no", finish="content_filter") if n == 1 else None
    ) as server:
        assert annotator(server).annotate(requests, tmp_path / "out", names).missing
        other = OpenAICompatible(server.url, "larger", **PRICES)  # type: ignore[arg-type]
        assert not other.annotate(requests, tmp_path / "out", names).missing


def test_insufficient_quota_stops_the_run(make: Make, tmp_path: Path) -> None:
    requests, names = make(5)
    reply = {"error": {"code": "insufficient_quota", "message": "you have no credit"}}
    with serving(lambda name, n: (429, reply, {})) as server:
        answers = annotator(server, concurrency=1).annotate(requests, tmp_path / "out", names)
    assert sum(server.asked.values()) == 1 and "no credit" in answers.notes[0]


def test_closed_port_is_listed_as_unreachable(make: Make, tmp_path: Path) -> None:
    requests, names = make(1)
    with serving() as server:
        pass
    answers = annotator(server, max_retries=1).annotate(requests, tmp_path / "out", names)
    assert problems(answers) == {"0.png": "unreachable"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"base_url": "localhost:8000"}, "http://"),
        ({"base_url": "http://me:secret@host/v1"}, "password"),
        ({"max_cost": 1.0, "price_per_million_input_tokens": None}, "both prices"),
        ({"max_cost": 1.0, **dict.fromkeys(PRICES)}, "max_cost needs"),
        ({"concurrency": 0}, "concurrency 0"),
        ({"max_retries": -1}, "max_retries -1"),
    ],
)
def test_invalid_settings_raise_user_error_without_the_secret(
    options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        OpenAICompatible(**{"base_url": "http://host/v1", "model": "tiny", **PRICES, **options})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", [None, "  ", "sk-line\nbreak", "sk-é"])
def test_missing_or_invalid_api_key_raises_user_error(
    key: str | None, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, names = make(1)
    monkeypatch.delenv("OPENAI_API_KEY")
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with serving() as server:
        with pytest.raises(UserError, match="OPENAI_API_KEY") as caught:
            annotator(server).annotate(requests, tmp_path / "out", names)
        assert "sk-" not in str(caught.value)
        no_key = annotator(server, api_key_env=None).annotate(requests, tmp_path / "out", names)
    assert not no_key.missing and server.keys == {None}


def test_answer_missing_from_the_ledger_is_added_on_restart(make: Make, tmp_path: Path) -> None:
    """A start that is killed between the two writes."""
    requests, names = make(4)
    out = tmp_path / "out"
    with serving() as server:
        annotator(server).annotate(requests[:3], out, names)
        text = (out / "ledger.csv").read_text()
        (out / "ledger.csv").write_text(text[: text.rindex(",")])  # and in the middle of a line
        annotator(server).annotate(requests, out, names)
    rows = ledger(out)
    assert sorted(row["uid"] for row in rows) == sorted(request.uid for request in requests)
    assert spent(out) == pytest.approx(4 * COST)


def test_killed_run_keeps_every_written_answer(make: Make, tmp_path: Path) -> None:
    """SIGKILL with 40 of 100 answers in; at most those under way are asked for twice."""
    requests, names = make(100)
    out, log = tmp_path / "out", tmp_path / "log"
    with serving(seconds=0.05) as server:
        command = [sys.executable, __file__, server.url, str(tmp_path), "100"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with log.open("wb") as handle:
            process = subprocess.Popen(command, stdout=handle, stderr=handle, env=environment)
        while server.answered < 40 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, log.read_text()
        kept = (out / "answers.jsonl").read_bytes().count(b"\n")
        time.sleep(0.2)  # the server ends what it has begun
        before = sum(server.asked.values())
        assert 40 - 4 <= kept <= before < 100
        answers = annotator(server, concurrency=4).annotate(requests, out, names)
        after = sum(server.asked.values()) - before
    assert not answers.missing and after == 100 - kept and before - kept <= 4
    rows = ledger(out)
    assert sorted(row["uid"] for row in rows) == sorted(request.uid for request in requests)
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert spent(out) == pytest.approx(sum(line["cost"] for line in lines)) == answers.cost
    assert answers.cost == pytest.approx(100 * COST)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 4 and not any(KEY.encode() in path.read_bytes() for path in files)


def annotate_in_this_process(url: str, folder: Path, count: int) -> None:
    """What the test above kills."""
    import numpy as np

    uids = [f"{number:032x}" for number in range(count)]
    images = [f"{number}.png" for number in range(count)]
    requests = [
        Request(uid, "", image, folder / "images" / image, "vqa", "prompt", "reference split")
        for uid, image in zip(uids, images, strict=True)
    ]
    names = PoolNames(*(np.array(column, dtype=object) for column in (uids, uids, images, images)))
    writer = OpenAICompatible(url, "tiny", concurrency=4, **PRICES)  # type: ignore[arg-type]
    writer.annotate(requests, folder / "out", names)


if __name__ == "__main__":
    annotate_in_this_process(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
