"""What the page asks for and stores: lists of images, decisions, instructions."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np

from presel_lightning.annotators.journal import Journal
from presel_lightning.annotators.matching import all_shown, check, from_turns
from presel_lightning.data.conversation import InvalidRecordError
from presel_lightning.data.preview import small
from presel_lightning.data.resolver import Resolver
from presel_lightning.errors import UserError
from presel_lightning.eval.report.conversations import Conversations, turns_of
from presel_lightning.eval.report.samples import KINDS, LEFT_OUT, score_name
from presel_lightning.records import Turn
from presel_lightning.review.items import Items, counts, files_of, read_items
from presel_lightning.run.decisions import DECISIONS, DecisionJournal
from presel_lightning.run.files import read_json

Json = dict[str, Any]

ANNOTATOR = "Review"
"""Name of the page in `answers.jsonl`."""
PER_PAGE = 60
SIDES = (200, 1600)
"""Pixels of the longer side of a thumbnail, and of an image in full."""
LONGEST = 20_000
"""Characters of a question or an answer."""


class Session:
    """One run under review; every decision and instruction is on disk when a call returns.

    Thread-safe. The lists are read again when the run has selected again.

    Args:
        out: run folder.
        resolver: finds its images.

    Raises:
        UserError: the run has no selection and waits for no instruction.
    """

    def __init__(self, out: Path, resolver: Resolver) -> None:
        self.out, self.resolver = out, resolver
        self._lock = threading.Lock()
        self._read: list[int] = []
        self._items: Items
        self._conversations: Conversations
        self._refresh()
        self.decisions = DecisionJournal(out)
        self.answers = Journal(out / "annotations")
        self.written = 0

    def close(self) -> None:
        """Close both journals."""
        self.decisions.close()
        self.answers.__exit__()

    def _refresh(self) -> Items:
        """Return the items; read them again where the run has changed them."""
        with self._lock:
            try:
                state = [p.stat().st_mtime_ns if p.exists() else 0 for p in files_of(self.out)]
                if state != self._read:
                    self._items, self._conversations = read_items(self.out), Conversations(self.out)
                    self._read = state
            except FileNotFoundError:  # removed between two looks: read again at the next request
                if not self._read:
                    raise
            return self._items

    # ------------------------------------------------------------------ what is shown
    def state(self) -> Json:
        """Return the counts of the page's heading."""
        items, found = self._refresh(), self.decisions.decisions
        waiting = items.having(self._waits)
        path = self.out / "run.json"
        return {
            "name": self.out.resolve().name,
            "score": score_name(read_json(path).get("selector")),
            "tasks": counts(items, waiting),
            "vetoed": len(found.vetoed),
            "pinned": len(found.pinned),
            "waiting": int(waiting.sum()),
        }

    def _waits(self, uid: str) -> bool:
        """Whether a sample has no instruction yet, and is not vetoed."""
        asked = uid in self._items.requests and uid not in self.answers
        return asked and self.decisions.of(uid) != "veto"

    def page(
        self, show: str, task: str = "", find: str = "", start: int = 0, before: int | None = None
    ) -> Json:
        """Return a page of images.

        Args:
            show: `selected`, `waiting`, `left_out`, `vetoed` or `pinned`.
            task: name of a task; all without.
            find: part of the file name, or the beginning of the uid.
            start: place from which on images are listed.
            before: place before which they are, instead.
        """
        items = self._refresh()
        marks = self._shown(items, show)
        if task:
            marks &= items.task == (items.tasks.index(task) if task in items.tasks else -1)
        if find:
            marks &= items.matching(find)
        rows = np.flatnonzero(marks)
        if before is None:
            first = int(np.searchsorted(rows, start))
        else:
            first = max(0, int(np.searchsorted(rows, before)) - PER_PAGE)
        shown = rows[first : first + PER_PAGE]
        return {
            "total": len(rows),
            "first": first,
            "items": [self._card(items, row) for row in shown.tolist()],
        }

    def _shown(self, items: Items, show: str) -> np.ndarray:
        found = self.decisions.decisions
        if show == "waiting":
            return items.having(self._waits)
        if show in ("vetoed", "pinned"):
            return items.having(getattr(found, show).__contains__)
        left_out: np.ndarray = items.kind == LEFT_OUT
        return left_out if show == "left_out" else ~left_out

    def _card(self, items: Items, row: int) -> Json:
        uid, score = str(items.uid[row]), float(items.score[row])
        return {
            "uid": uid,
            "place": row,
            "image": str(items.image[row]),
            "task": items.tasks[items.task[row]],
            "kind": KINDS[items.kind[row]],
            "score": round(score, 5) if np.isfinite(score) else None,
            "n_images": len(items.images(row)),
            "decision": self.decisions.of(uid),
            "waits": self._waits(uid),
        }

    def detail(self, uid: str) -> Json:
        """Return everything about an image.

        Raises:
            KeyError: it is not in the run.
        """
        items = self._refresh()
        row = items.row[uid]
        request = items.requests.get(uid, {})
        answered = uid in self.answers
        turns = turns_of(self.answers[uid]) if answered else self._conversations.turns(uid)
        return {
            **self._card(items, row),
            "images": items.images(row),
            "cluster": int(items.cluster[row]) if items.cluster[row] >= 0 else None,
            "reason": str(items.reason[row]),
            "prompt": request.get("prompt", ""),
            "turns": turns,
            "editable": bool(request) or answered,
        }

    def picture(self, uid: str, number: int, side: int) -> bytes | None:
        """Return an image, downscaled, as WebP; None where it cannot be read.

        Raises:
            KeyError: the sample is not in the run.
            IndexError: it has fewer images.
        """
        items = self._refresh()
        found = small(self.resolver, items.images(items.row[uid])[number], side)
        if found is None:
            return None
        buffer = io.BytesIO()
        found.save(buffer, "WEBP", quality=80, method=2)
        return buffer.getvalue()

    # ------------------------------------------------------------------ what is stored
    def decide(self, uid: str, decision: str) -> Json:
        """Veto or pin an image, or leave it to the selector again.

        Raises:
            KeyError: it is not in the run.
            UserError: the decision is unknown.
        """
        items = self._refresh()
        row = items.row[uid]
        if decision not in DECISIONS:
            raise UserError(f"decision {decision!r:.40} is unknown; give {', '.join(DECISIONS)}")
        task = items.tasks[items.task[row]]
        self.decisions.add(uid, str(items.image[row]), task, decision)
        return self._card(items, row)

    def answer(self, uid: str, turns: list[tuple[str, str]]) -> Json:
        """Store the instruction of an image that waits for one, or replace what was written.

        Args:
            uid: uid of the sample.
            turns: question and answer of each turn.

        Raises:
            KeyError: it is not in the run.
            UserError: it is not asked for, or a question or answer is empty or too long.
        """
        items = self._refresh()
        row = items.row[uid]
        if uid not in items.requests and uid not in self.answers:
            raise UserError("this image has an instruction, or none is asked for")
        if any(len(text) > LONGEST for turn in turns for text in turn):
            raise UserError(f"a question or answer is longer than {LONGEST:,} characters")
        images = items.images(row)
        said = all_shown(from_turns(Turn(*turn) for turn in turns), len(images))
        try:
            check(images, said)
        except InvalidRecordError as error:
            raise UserError(str(error)) from error
        self.answers.add(uid, images[0], said, ANNOTATOR)
        with self._lock:
            self.written += 1
        return self._card(items, row)

    def summary(self) -> str:
        """Return what lies in the journals, in one line."""
        found = self.decisions.decisions
        waiting = int(self._refresh().having(self._waits).sum())
        return (
            f"{len(found.vetoed)} vetoed, {len(found.pinned)} pinned, {self.written} instructions "
            f"written now, {waiting} images wait for one"
        )
