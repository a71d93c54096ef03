from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from presel_lightning.annotators import FromFile, OpenAICompatible
from presel_lightning.annotators.ledger import CostLedger
from tests.annotators.asked import COST, PRICES, annotator, ledger, problems, spent
from tests.annotators.conftest import Make
from tests.annotators.server import KEY, PATIENCE, Reply, completion, good, serving
from tests.ports import closed_port


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
        patient = annotator(server, max_retries=2, max_unreadable=20)
        answers = patient.annotate(requests, out, names)
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


GOOD = json.dumps({"turns": [{"question": "What?", "answer": "That."}]})


def kept(out: Path) -> list[dict[str, Any]]:
    lines = (out / "unreadable.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_thinking_prose_and_parts_are_answers_of_one_request(make: Make, tmp_path: Path) -> None:
    message = {"content": None, "reasoning_content": f"So: {GOOD}"}
    replies: list[Reply] = [
        completion(f"One object {{so}}.\n</think>\n\n{GOOD}"),
        completion(f"Sure:\n```json\n{GOOD}\n```\nDone!"),
        (200, {"choices": [{"message": {"content": [{"type": "text", "text": GOOD}]}}]}, {}),
        (200, {"choices": [{"message": message, "finish_reason": "stop"}]}, {}),
    ]
    requests, names = make(len(replies))
    with serving(lambda name, n: replies[int(name.removeprefix("image-"))]) as server:
        answers = annotator(server).annotate(requests, tmp_path / "out", names)
    assert not answers.missing and set(server.asked.values()) == {1}
    assert {c[1]["value"] for c in answers.conversations.values()} == {"That."}
    assert not kept(tmp_path / "out")


def test_unreadable_reply_is_kept_and_its_reason_is_in_the_next_request(
    make: Make, tmp_path: Path
) -> None:
    requests, names = make(1)
    deep = "[" * 30_000  # no decoder reads it
    bad = [completion(f"a {KEY}\ud800 b"), (200, deep, {}), (200, {"choices": []}, {})]
    bad.append(completion({"turns": [{"question": "What?", "answer": ""}]}))
    with serving(lambda name, n: bad[n - 1] if n <= 4 else None) as server:
        answers = annotator(server).annotate(requests, tmp_path / "out", names)
        assert not annotator(server).annotate(requests, tmp_path / "out", names).missing
    assert not answers.missing and len(server.bodies) == 5
    prompts = [body["messages"][1]["content"][1]["text"] for body in server.bodies]
    assert prompts[0] == requests[0].prompt
    for prompt, reason in zip(
        prompts[1:],
        ["no JSON", "not a chat completion", "not a chat completion", "answer 1 is empty"],
        strict=True,
    ):
        assert prompt.startswith(requests[0].prompt) and reason in prompt
    lines = kept(tmp_path / "out")
    assert [line["attempt"] for line in lines] == [1, 2, 3, 4]
    assert lines[1]["reply"] == deep and "a *** b" in lines[0]["reply"].replace("\\ud800", "")
    rows = ledger(tmp_path / "out")
    assert [row["status"] for row in rows] == ["malformed"] * 4 + ["answered"]
    assert spent(tmp_path / "out") == pytest.approx(3 * COST + rows_without_usage(rows))
    assert KEY not in json.dumps(lines) + prompts[1]


def rows_without_usage(rows: list[dict[str, str]]) -> float:
    """Completions that do not report their tokens are charged the upper bound."""
    return sum(float(row["cost"] or 0) for row in rows if not row["prompt_tokens"])


def test_five_unreadable_replies_in_a_row_stop_the_run(make: Make, tmp_path: Path) -> None:
    requests, names = make(8)
    out = tmp_path / "out"
    with serving(lambda name, n: completion(f"I see {name}.")) as server:
        one = annotator(server, concurrency=1, max_retries=2)
        answers = one.annotate(requests, out, names)
        assert sum(server.asked.values()) == len(ledger(out)) == len(kept(out)) == 5
        assert spent(out) == pytest.approx(5 * COST)
        (note,) = answers.notes
        assert "5 replies in a row could not be read" in note and "I see image-1" in note
        assert "unreadable.jsonl" in one.cure and "response_format" in one.cure
        # the fault is not the images': the next start sends all of them again
        server.behaviour = lambda name, n: None
        assert not annotator(server).annotate(requests, out, names).missing
    assert sum(server.asked.values()) == 5 + 8


def test_difficult_images_do_not_stop_a_service_that_can_answer(make: Make, tmp_path: Path) -> None:
    requests, names = make(6)

    def behave(name: str, number: int) -> Reply | None:
        return None if name in ("image-0", "image-5") else completion("Hm.")

    with serving(behave) as server:
        answers = annotator(server, concurrency=1, max_retries=1).annotate(
            requests, tmp_path / "out", names
        )
    assert not answers.notes and len(answers.problems) == 4 and len(answers.conversations) == 2


def test_slow_reply_times_out_and_is_requested_again(make: Make, tmp_path: Path) -> None:
    requests, names = make(3)
    again = Event()

    def behave(name: str, number: int) -> None:
        if name == "image-1" and number > 1:
            again.set()
        if name == "image-1" and number == 1:
            again.wait(PATIENCE)

    with serving(behave) as server:
        answers = annotator(server, timeout=0.5, max_retries=99).annotate(
            requests, tmp_path / "out", names
        )
    assert not answers.missing and server.asked["image-1"] > 1
    statuses: dict[str, list[str]] = {request.uid: [] for request in requests}
    for row in ledger(tmp_path / "out"):
        statuses[row["uid"]].append(row["status"])
    for found in statuses.values():  # a busy machine may be slow more often
        assert found == ["timeout"] * (len(found) - 1) + ["answered"]
    assert len(statuses[requests[1].uid]) > 1


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
    (note,) = answers.notes
    assert note.startswith("stopped: the server asks to wait 3600 s")
    assert "annotator.init_args.patience" in note and note.endswith("6 images are left")


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
    again = CostLedger(tmp_path / "out" / "ledger.csv").paid
    assert answers.cost == bound == again and not answers.missing
    assert f"{answers.cost:.2f}" == f"{again:.2f}" == f"at most {float(again):.2f}"


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
        assert "1 of them were refused and 1 of them got no readable reply" in first.cure
        assert "retry_refused" in first.cure
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
    with closed_port() as port:
        gone = OpenAICompatible(
            f"http://127.0.0.1:{port}/v1",
            "tiny",
            max_retries=1,
            backoff=0.01,
            **PRICES,  # type: ignore[arg-type]
        )
        answers = gone.annotate(requests, tmp_path / "out", names)
    assert problems(answers) == {"0.png": "unreachable"}
