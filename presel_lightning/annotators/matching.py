"""Matching of answers to samples, and their validation."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from presel_lightning.annotators.base import AnswerProblem, Names, Request
from presel_lightning.annotators.journal import Conversation, Journal
from presel_lightning.data.conversation import IMAGE, InvalidRecordError, parse, without_image_token
from presel_lightning.data.resolver import tidy
from presel_lightning.data.values import text_of
from presel_lightning.records import Turn, own_fields


@dataclass(frozen=True, slots=True)
class Given:
    """One answer of a file.

    Attributes:
        place: its place in the file, for messages.
        names: any of `uid`, `image`, `id`, `task`.
        conversations: its instruction, not validated; None or [] where there is none yet.
        fault: why its values are no instruction.
    """

    place: str
    names: Mapping[str, Any]
    conversations: Any
    fault: InvalidRecordError | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is written there yet."""
        return self.conversations in (None, []) and self.fault is None


def check(images: Sequence[str], conversations: object, *, bare: bool = False) -> None:
    """Validate an instruction.

    Args:
        images: paths of its image, or of several.
        conversations: the instruction.
        bare: whether a question may be `<image>` alone, as in a pool.

    Raises:
        InvalidRecordError: it is not a conversation about an image, or a question is empty.
    """
    turns = parse({"image": list(images), "conversations": conversations})
    if not turns:
        raise InvalidRecordError("no_turn", "there is neither question nor answer")
    for number, turn in enumerate(turns, start=1):
        if not (bare or turn.question.strip()):
            raise InvalidRecordError("empty_question", f"question {number} is empty")
    try:
        json.dumps(conversations, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRecordError(
            "not_text", "it holds half a character (a lone surrogate)"
        ) from error


def all_shown(conversations: Any, n_images: int) -> Any:  # noqa: ANN401 - any JSON value
    """An answer that shows all images of its record before the first question, where it places none.

    An answer is written about all of them: a single `<image>`, or none, stands for them, in order.
    Others, and what is no conversation, are left as they are, to be validated.

    Args:
        conversations: the instruction, not validated.
        n_images: images of its record.
    """
    asked = conversations[::2] if isinstance(conversations, list) else []
    texts = [turn.get("value") for turn in asked if isinstance(turn, dict)]
    said = [text for text in texts if isinstance(text, str)]
    if n_images < 2 or not asked or len(said) < len(asked):
        return conversations
    if sum(text.count(IMAGE) for text in said) > 1:
        return conversations
    plain = [{**turn, "value": without_image_token(turn["value"])} for turn in asked]
    plain[0]["value"] = f"{IMAGE}\n" * n_images + plain[0]["value"]
    return [plain[n // 2] if n % 2 == 0 else turn for n, turn in enumerate(conversations)]


def from_turns(turns: Iterable[Turn]) -> Conversation:
    """Convert turns to LLaVA form, with the image token before the first question."""
    conversation = []
    for number, turn in enumerate(turns):
        question = without_image_token(turn.question).strip()
        shown = f"{IMAGE}\n{question}" if number == 0 else question
        conversation.append({"from": "human", "value": shown})
        conversation.append({"from": "gpt", "value": turn.answer.strip()})
    return conversation


def numbered(fields: Mapping[str, Any]) -> list[Turn]:
    """Read the turns of a form with `question`, `answer`, `question_2`, `answer_2` and so on.

    A turn with neither question nor answer is skipped.
    """
    turns = []
    for suffix in sorted(key.removeprefix("answer") for key in fields if key.startswith("answer")):
        if suffix == "" or suffix[1:].isdigit():
            number = int(suffix[1:] or 1)
            question = text_of(fields.get(f"question{suffix}"), "question").strip()
            answer = text_of(fields[f"answer{suffix}"], "answer").strip()
            turns.append((number, Turn(question, answer)))
    return [turn for _, turn in sorted(turns) if turn.question or turn.answer]


def given_of(place: str, names: Mapping[str, Any], fields: Mapping[str, Any]) -> Given:
    """Read an answer whose turns are numbered fields; see `numbered`."""
    try:
        return Given(place, names, from_turns(numbered(fields)))
    except InvalidRecordError as fault:
        return Given(place, names, None, fault)


class Matcher:
    """Resolves names to samples of the pool.

    A name is a uid of the pool; where there is none, or one of another tool, it is an image (of
    several the first), with the record's id and task where several samples share it.

    Args:
        names: names of the whole pool.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._uids = set(names.uid)
        self._rows: dict[str, list[int]] = defaultdict(list)
        for row, image in enumerate(names.image):
            self._rows[image].append(row)

    def uid(self, given: Mapping[str, Any]) -> str:
        """Return the uid of a name.

        Raises:
            InvalidRecordError: no sample of the pool matches, or several do.
        """
        uid = own_fields(given).get("uid", given.get("uid"))
        if str(uid) in self._uids:
            return str(uid)
        image = given.get("image")
        image = image[0] if isinstance(image, list) and image else image
        rows = self._rows.get(tidy(str(image)), [])
        if not rows and uid not in (None, ""):
            raise InvalidRecordError("unknown_uid", "no sample of the pool has it, or its image")
        if image in (None, ""):
            raise InvalidRecordError("no_name", "it has neither `uid` nor `image`")
        for key in ("id", "task"):
            same = [row for row in rows if getattr(self._names, key)[row] == str(given.get(key))]
            rows = same if len(rows) > 1 and same else rows
        if len(rows) != 1:
            kind = "ambiguous_image" if rows else "unknown_image"
            raise InvalidRecordError(
                kind, f"{len(rows)} samples of the pool show it; give the `uid`"
            )
        return str(self._names.uid[rows[0]])


def take(
    given: Iterable[Given],
    requests: Sequence[Request],
    journal: Journal,
    names: Names,
    annotator: str,
    *,
    bare: bool = False,
) -> list[AnswerProblem]:
    """Add the valid answers of the requests to the journal.

    Answers without a request are skipped. The first answer of a sample counts. An answer that is in
    the journal already is added again only if it has changed.

    Args:
        given: answers of a file.
        requests: all requests.
        journal: stores the answers.
        names: names of the whole pool.
        annotator: class name of the annotator.
        bare: see `check`.

    Returns:
        The invalid answers.
    """
    asked = {request.uid: request for request in requests}
    matcher = Matcher(names)
    problems: list[AnswerProblem] = []
    seen: dict[str, Any] = {}
    for one in given:
        if one.is_empty:
            continue
        uid = str(one.names.get("uid") or "")
        try:
            uid = matcher.uid(one.names)
            if uid not in asked:
                continue
            if one.fault is not None:
                raise one.fault
            said = all_shown(one.conversations, len(asked[uid].images))
            if uid in seen:
                if seen[uid] != said:
                    raise InvalidRecordError(
                        "repeated", "an earlier answer of the same sample differs from it"
                    )
                continue
            seen[uid] = said
            check(asked[uid].images, said, bare=bare)
        except InvalidRecordError as error:
            image = asked[uid].image if uid in asked else str(one.names.get("image") or "")
            problems.append(AnswerProblem(uid, image, error.problem, f"{one.place}: {error}"))
            continue
        if uid not in journal or journal[uid] != said:
            journal.add(uid, asked[uid].image, said, annotator)
    return problems
