from __future__ import annotations

import fcntl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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


class InTwoParts:
    """The handle of a file that is written in two parts, the second once it is let go."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.begun, self.goes = threading.Event(), threading.Event()

    def write(self, content: bytes) -> int:
        if self.begun.is_set():
            assert self.goes.wait(300)
            return int(self.handle.write(content))
        written: int = self.handle.write(content[:2])
        self.begun.set()
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.handle, name)


@pytest.fixture
def line_in_two_parts(tmp_path: Path) -> tuple[LineFile, InTwoParts]:
    """A file, one line of which takes long to be written."""
    file = LineFile(tmp_path / "lines")
    file.append("first")
    handle = InTwoParts(file._handle)
    file._handle = handle  # type: ignore[assignment]
    return file, handle


def test_line_file_opened_while_another_process_writes_keeps_its_line(
    line_in_two_parts: tuple[LineFile, InTwoParts], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, handle = line_in_two_parts
    asked, flock = threading.Event(), fcntl.flock

    def noted(place: Any, how: int) -> None:
        asked.set()
        flock(place, how)

    with ThreadPoolExecutor() as threads:
        writing = threads.submit(file.append, "second")
        assert handle.begun.wait(300)
        monkeypatch.setattr(fcntl, "flock", noted)
        opening = threads.submit(LineFile, file.path)  # with a lock of its own, as in a process
        assert asked.wait(300)
        handle.goes.set()
        writing.result()
    assert opening.result().lines == ["first", "second"]


def test_line_file_closed_while_a_line_is_written_keeps_it(
    line_in_two_parts: tuple[LineFile, InTwoParts],
) -> None:
    file, handle = line_in_two_parts
    with ThreadPoolExecutor() as threads:
        writing = threads.submit(file.append, "second")
        assert handle.begun.wait(300)
        closing = threads.submit(file.close)
        handle.goes.set()
        writing.result()
        closing.result()
    assert file.path.read_text() == "first\nsecond\n"
