from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.errors import UserError
from presel_lightning.run.decisions import (
    DECISIONS,
    NO_DECISIONS,
    DecisionJournal,
    Decisions,
    read_decisions,
)

STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(DECISIONS)), max_size=12)


@given(steps=STEPS, cut=st.integers(0, 2000))
def test_last_decision_counts_and_a_cut_line_is_ignored(
    steps: list[tuple[str, str]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("run")
    journal = DecisionJournal(out)
    for uid, decision in steps:
        journal.add(uid, f"images/{uid}\n.png", "a task", decision)  # type: ignore[arg-type]
    journal.close()
    path = out / "review.jsonl"
    path.write_bytes(path.read_bytes()[:cut])
    last = dict(steps[: path.read_bytes().count(b"\n")])
    expected = Decisions(
        frozenset(uid for uid, found in last.items() if found == "veto"),
        frozenset(uid for uid, found in last.items() if found == "pin"),
    )
    assert read_decisions(out) == expected == DecisionJournal(out).decisions


def test_decisions_are_read_while_others_are_stored(tmp_path: Path) -> None:
    lines = [json.dumps({"uid": f"a{n}", "decision": "veto"}) for n in range(3000)]
    (tmp_path / "review.jsonl").write_text("".join(f"{line}\n" for line in lines))
    journal = DecisionJournal(tmp_path)
    with ThreadPoolExecutor(4) as threads:
        stored = [
            threads.submit(journal.add, f"b{n // 2}", "b.png", "a task", DECISIONS[n % 3])
            for n in range(60)
        ]
        while not all(each.done() for each in stored):
            assert len(journal.decisions.vetoed) >= 3000
    assert [each.result() for each in stored] == [None] * 60
    assert journal.decisions == read_decisions(tmp_path)  # the last of two at a time, too
    journal.close()


def test_decisions_without_a_journal_are_none(tmp_path: Path) -> None:
    assert read_decisions(tmp_path) is NO_DECISIONS and not NO_DECISIONS


@pytest.mark.parametrize("line", ["{", "[]", '{"uid": "a"}', '{"uid": "a", "decision": "keep"}'])
def test_line_that_is_no_decision_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "review.jsonl").write_text(f'{{"uid": "a", "decision": "pin"}}\n{line}\n')
    with pytest.raises(UserError, match=r"review\.jsonl, line 2: not a decision"):
        read_decisions(tmp_path)
