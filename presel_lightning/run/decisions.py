"""`review.jsonl`: the samples that a person vetoed or pinned in a run folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from presel_lightning.errors import UserError
from presel_lightning.run.line_file import LineFile

Decision = Literal["veto", "pin", "none"]
"""What is decided of a sample: never selected, always selected, or left to the selector."""
DECISIONS: tuple[Decision, ...] = get_args(Decision)


def review_path(out: Path) -> Path:
    """Return the path of the journal."""
    return out / "review.jsonl"


@dataclass(frozen=True)
class Decisions:
    """Decisions of a person on samples of a run.

    Attributes:
        vetoed: uids that are never selected.
        pinned: uids that are always selected.
    """

    vetoed: frozenset[str] = frozenset()
    pinned: frozenset[str] = frozenset()

    def among(self, uids: Iterable[str]) -> Decisions:
        """Return the decisions on these samples."""
        known = set(uids) if self else set()
        return Decisions(self.vetoed & known, self.pinned & known)

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self.vetoed or self.pinned)

    def lines(self) -> list[str]:
        """Return the decisions as sorted lines, for a fingerprint."""
        found = [f"{uid} veto" for uid in self.vetoed] + [f"{uid} pin" for uid in self.pinned]
        return sorted(found)


NO_DECISIONS = Decisions()


def read_decisions(out: Path) -> Decisions:
    """Read the decisions in a run folder; none without a journal.

    An incomplete last line, of a process that was killed while it wrote, is ignored.

    Raises:
        UserError: a line is no decision.
    """
    path = review_path(out)
    if not path.exists():
        return NO_DECISIONS
    content = path.read_bytes().rpartition(b"\n")[0].decode("utf-8", errors="replace")
    return _decisions(decided(path, content.split("\n") if content else ()))


def decided(path: Path, lines: Collection[str]) -> dict[str, Decision]:
    """Parse lines of the journal; the last one of a uid counts.

    Args:
        path: of the journal, for the error message.
        lines: its lines.

    Raises:
        UserError: a line is no decision.
    """
    found: dict[str, Decision] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            uid, decision = str(record["uid"]), record["decision"]
        except (ValueError, KeyError, TypeError):
            uid, decision = "", None
        if decision not in DECISIONS:
            raise UserError(
                f"{path}, line {number}: not a decision ({', '.join(DECISIONS)}); remove the line"
            )
        found[uid] = decision
    return found


def _decisions(found: dict[str, Decision]) -> Decisions:
    def of(kind: Decision) -> frozenset[str]:
        return frozenset(uid for uid, decision in found.items() if decision == kind)

    return Decisions(of("veto"), of("pin"))


class DecisionJournal:
    """The journal, open for further decisions.

    Args:
        out: run folder.

    Raises:
        UserError: a line is no decision.
    """

    def __init__(self, out: Path) -> None:
        path = review_path(out)
        self._lock = threading.Lock()
        self._file = LineFile(path)
        self._found = decided(path, self._file.lines)

    def of(self, uid: str) -> Decision:
        """Return what is decided of a sample."""
        return self._found.get(uid, "none")

    @property
    def decisions(self) -> Decisions:
        """All decisions."""
        with self._lock:
            return _decisions(self._found)

    def add(self, uid: str, image: str, task: str, decision: Decision) -> None:
        """Store a decision durably; it replaces an earlier one of the same sample. Thread-safe.

        Args:
            uid: uid of the sample.
            image: its path relative to the image root, for people who read the file.
            task: its task, likewise.
            decision: the decision.
        """
        record = {"uid": uid, "decision": decision, "task": task, "image": image}
        with self._lock:  # the last line of a uid counts, here as in the file
            self._file.append(json.dumps(record, ensure_ascii=False))
            self._found[uid] = decision

    def close(self) -> None:
        """Close the file."""
        self._file.close()
