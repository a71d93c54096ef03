from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from presel_lightning.annotators import Answers, FromFile
from presel_lightning.errors import UserError
from tests.annotators.conftest import Make
from tests.annotators.names import conversation

Record = dict[str, Any]


def as_list(path: Path, records: list[Record]) -> None:
    path.write_text(json.dumps(records))


def as_lines(path: Path, records: list[Record]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def as_csv(path: Path, records: list[Record]) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as handle:
        writer = csv.writer(handle)
        writer.writerow(["uid", "image", "question", "answer"])
        for record in records:
            turns = record["conversations"]
            for asked, said in zip(turns[::2], turns[1::2], strict=True):
                question = asked["value"].removeprefix("<image>\n")
                name = record.get("uid", ""), record.get("image", "")
                writer.writerow([*name, question, said["value"]])


@pytest.mark.parametrize("form", [as_list, as_lines, as_csv])
def test_from_file_matches_answers_by_uid_and_by_image(
    form: Callable[[Path, list[Record]], None], make: Make, tmp_path: Path
) -> None:
    requests, names = make(3)
    two = [*conversation("Line one\nand, \u2028 two"), *conversation("Yes.", "Why?")]
    records = [
        {"uid": requests[0].uid, "conversations": two},
        {"image": "1.png", "conversations": conversation("B")},
        {"uid": names.uid[5], "conversations": conversation("nobody asked")},
    ]
    form(tmp_path / "answers", records)
    answers = FromFile(str(tmp_path / "answers")).annotate(requests, tmp_path / "out", names)
    assert not answers.problems
    assert answers.conversations == {requests[0].uid: two, requests[1].uid: conversation("B")}
    assert answers.missing == [requests[2].uid]
    again = FromFile("nowhere").annotate(requests, tmp_path / "out", names)
    assert again.conversations == answers.conversations
    assert not again.notes and "nowhere, which does not exist yet" in FromFile("nowhere").cure
    assert "question and answer of each into" in FromFile("requests.csv").cure


def test_from_file_holds_what_it_has_an_answer_to(make: Make, tmp_path: Path) -> None:
    requests, names = make(3)
    place, listed = tmp_path / "answers.csv", tmp_path / "answers.json"
    one = FromFile(str(place))
    assert one.holds([], names) and not one.holds(names.uid[:1], names)  # no file yet
    answers = [{"image": "1.png", "conversations": conversation("B")}]
    as_csv(place, [*answers, {"uid": "nobody", "conversations": conversation("C")}])
    assert one.holds([requests[1].uid], names)
    assert not one.holds([request.uid for request in requests[:2]], names)
    # an answer that is none is one all the same; a record whose image is not described yet is not
    for conversations, held in ((7, True), ([], False)):
        as_list(listed, [{"image": "1.png", "conversations": conversations}])
        assert FromFile(str(listed)).holds([requests[1].uid], names) is held
    listed.write_text('{"image": "1.png", "weight": 1e999}\n')
    assert FromFile(str(listed)).holds([requests[1].uid], names)
    place.write_bytes("question;answer;uid\n\xe9;b;c\n".encode("cp1252"))
    with pytest.raises(UserError, match="save it in UTF-8"):
        one.holds([requests[1].uid], names)


def kinds(answers: Answers) -> list[tuple[str, str]]:
    return [(problem.problem, problem.detail.split(":")[0]) for problem in answers.problems]


def test_from_file_unusable_records_are_listed_as_problems(make: Make, tmp_path: Path) -> None:
    requests, names = make(8)
    names.image[12] = "5.png"  # shown by another sample of the pool too
    uid = [request.uid for request in requests]
    as_lines(
        tmp_path / "answers",
        [
            {"uid": "f" * 32, "conversations": conversation("A")},
            {"uid": uid[0], "conversations": conversation("A", "no token")},
            {"uid": uid[1], "conversations": conversation("  ")},
            {"image": "elsewhere.png", "conversations": conversation("A")},
            {"conversations": conversation("A")},
            {"image": "5.png", "conversations": conversation("A")},
            {"image": "5.png", "id": "id-5", "conversations": conversation("by id")},
            {"uid": uid[2], "conversations": "text"},
            {"uid": uid[3], "conversations": conversation("first")},
            {"uid": uid[3], "conversations": conversation("second")},
            {"uid": uid[4], "conversations": []},
            {"uid": uid[6]},
            {"uid": uid[7], "conversations": conversation("\ud800")},
            {"image": "\ud800.png", "conversations": conversation("A")},
        ],
    )
    answers = FromFile(str(tmp_path / "answers")).annotate(requests, tmp_path / "out", names)
    assert kinds(answers) == [
        ("unknown_uid", "record 1"),
        ("image_without_token", "record 2"),
        ("empty_answer", "record 3"),
        ("unknown_image", "record 4"),
        ("no_name", "record 5"),
        ("ambiguous_image", "record 6"),
        ("conversations_not_a_list", "record 8"),
        ("repeated", "record 10"),
        ("not_text", "record 13"),
        ("unknown_image", "record 14"),
    ]
    assert answers.problems[1].uid == uid[0] and answers.problems[1].image == "0.png"
    first, by_id = conversation("first"), conversation("by id")
    assert answers.conversations == {uid[3]: first, uid[5]: by_id}
    assert len((tmp_path / "out" / "problems.csv").read_text().splitlines()) == 11


def test_from_file_corrected_answer_replaces_the_old_one(make: Make, tmp_path: Path) -> None:
    requests, names = make(2)
    path, out = tmp_path / "answers", tmp_path / "out"
    for answer in ("old", "old", "new", "  "):
        as_lines(path, [{"uid": requests[0].uid, "conversations": conversation(answer)}])
        answers = FromFile(str(path)).annotate(requests, out, names)
    assert answers.conversations == {requests[0].uid: conversation("new")}
    assert kinds(answers) == [("empty_answer", "record 1")]
    assert len((out / "answers.jsonl").read_text().splitlines()) == 2


def test_csv_row_without_question_and_answer_is_skipped(make: Make, tmp_path: Path) -> None:
    requests, names = make(2)
    (tmp_path / "a.csv").write_text("image,question,answer\n0.png,,\n1.png,What?,\n")
    answers = FromFile(str(tmp_path / "a.csv")).annotate(requests, tmp_path / "out", names)
    assert kinds(answers) == [("empty_answer", "line 3")]


def test_from_file_answer_without_question_is_listed(make: Make, tmp_path: Path) -> None:
    requests, names = make(3)
    bare = [*conversation("Yes.", "<image>"), *conversation("So.", "Why?")]
    as_list(tmp_path / "a.json", [{"image": "0.png", "conversations": bare}])
    table = "image,question,answer\n1.png,,hello\n2.png,What?,That.\n2.png,,More.\n"
    (tmp_path / "a.csv").write_text(table)
    for name, count in (("a.json", 1), ("a.csv", 2)):
        answers = FromFile(str(tmp_path / name)).annotate(requests, tmp_path / "out", names)
        assert [problem.problem for problem in answers.problems] == ["empty_question"] * count
        assert not answers.conversations


def test_csv_with_bom_semicolons_and_crlf_is_parsed(make: Make, tmp_path: Path) -> None:
    requests, names = make(2)
    text = '\ufeffimage;question;answer\r\n0.png;"What; then?";A, B\r\n'
    (tmp_path / "a.csv").write_text(text, newline="")
    answers = FromFile(str(tmp_path / "a.csv")).annotate(requests, tmp_path / "out", names)
    assert answers.conversations == {requests[0].uid: conversation("A, B", "<image>\nWhat; then?")}


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "[{]", b"\xff\xfe", b"uid,question,answer\na,Gr\xfcn?,b\n"]
)
def test_from_file_unknown_format_raises_user_error(
    text: str | bytes, make: Make, tmp_path: Path
) -> None:
    requests, names = make(1)
    path = tmp_path / "answers"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match="answers"):
        FromFile(str(path)).annotate(requests, tmp_path / "out", names)
