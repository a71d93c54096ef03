from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.annotators import Journal
from presel_lightning.errors import UserError
from presel_lightning.run.line_file import LineFile
from tests.annotators.names import conversation


@given(answers=st.lists(st.text(), max_size=4), cut=st.integers(0, 400))
def test_journal_truncated_anywhere_keeps_complete_lines(
    answers: list[str], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    answers = [answer.encode("utf-8", "ignore").decode() for answer in answers]
    with Journal(folder) as journal:
        for number, answer in enumerate(answers):
            journal.add(str(number), "a.png", conversation(answer), "Test")
    path = folder / "answers.jsonl"
    content = path.read_bytes()[:cut]
    path.write_bytes(content)
    whole = content.count(b"\n")
    with Journal(folder) as journal:
        assert [journal[str(n)] for n in range(whole)] == [
            conversation(answer) for answer in answers[:whole]
        ]
        journal.add("new", "b.png", conversation("new"), "Test")
    with Journal(folder) as journal:
        assert len(journal.records) == whole + 1 and journal["new"] == conversation("new")


def test_journal_corrupt_line_raises_error_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"uid": "a", "conversations": []}\n{"uid"\n')
    with pytest.raises(UserError, match="line 2"):
        Journal(tmp_path)


def test_line_file_reopened_writes_its_header_once(tmp_path: Path) -> None:
    for line in ("1,2", "3,4"):
        file = LineFile(tmp_path / "a.csv", "a,b")
        file.append(line)
        file.close()
    assert (tmp_path / "a.csv").read_text() == "a,b\n1,2\n3,4\n"
    assert LineFile(tmp_path / "a.csv", "a,b").lines == ["1,2", "3,4"]
