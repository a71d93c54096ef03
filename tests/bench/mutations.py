"""Records as people's files have them, and ways in which one goes wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

IMAGES = 8
"""Different small images that the records share."""
TASKS = 7
MUTATED = 0.3
"""Share of the records that are changed."""
HUGE = 17_000_000
"""Characters of a text that is too large for a record."""
TEXTS = (
    "", " ", "<image>", "<image>\n<image>", "</s>", "null", "NaN", "=1+1", "a,b;c\td", '"', '""',
    "it's", "\\", "\n", "\r", "two\r\nlines", "\x00", "\x07", "\x85", "\u2028", "\ufeff", "\u202e",
    "é", "e\u0301", "日本語", "👩‍👩‍👧", "\ud800", "\udcff", "x" * 5000, "%s{}$", "../../x", "/etc/passwd",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**63, 2**64, -(2**63) - 1, 10**30, 1e308, float("nan"),
    float("inf"), [], {}, [[]], [None], {"": None}, {"from": "human"}, ["a", "b"], "",
)  # fmt: skip
RAW = (
    "1e999",
    "-1e999",
    "9" * 5000,
    "[" * 150 + "]" * 150,
    "[" * 3000 + "]" * 3000,
    '{"a":' * 120 + "1" + "}" * 120,
)
"""JSON that Python does not write."""
OTHER_FORMS: tuple[dict[str, Any], ...] = (
    {"messages": [{"role": "user", "content": "What?"}]},
    {"query": "What?", "response": "A dot."},
    {"conversation": "Q: What? A: A dot."},
)

Record = dict[str, Any]
Mutation = Callable[[random.Random, Record], None]


@dataclass
class Made:
    """One record of a campaign.

    Attributes:
        number: from 0.
        text: the record as JSON.
        touched: whether it was changed.
    """

    number: int
    text: str
    touched: bool

    @property
    def image(self) -> str:
        """Path of its image, before any change."""
        return f"images/{self.number % IMAGES}.png"


def sound(number: int, rng: random.Random) -> Record:
    """A record that can be used; no two are alike."""
    turns = []
    for turn in range(rng.choice((1, 1, 1, 2, 3)) if rng.random() > 0.1 else 0):
        shown = "" if turn else "<image>\n"
        turns.append({"from": "human", "value": f"{shown}What is in picture {number}, {turn}?"})
        turns.append({"from": "gpt", "value": rng.choice(('A "dot", blue', "two\nlines", "Tür"))})
    record = {"id": f"{number:07d}", "image": f"images/{number % IMAGES}.png"}
    return {**record, "task": f"task-{number % TASKS}", "conversations": turns}


def text_only(number: int) -> Record:
    """A record without an image."""
    turns = [{"from": "human", "value": f"{number} + 1?"}, {"from": "gpt", "value": "more"}]
    return {"id": f"{number:07d}", "conversations": turns}


def made(number: int, seed: int) -> Made:
    """A record of a campaign, the same for the same seed."""
    rng = random.Random(f"{seed} {number}")
    record: Any = text_only(number) if rng.random() < 0.03 else sound(number, rng)
    if rng.random() > MUTATED:
        return Made(number, json.dumps(record, ensure_ascii=rng.random() < 0.5), touched=False)
    if rng.random() < 0.05:
        return Made(number, json.dumps(rng.choice(VALUES)), touched=True)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(MUTATIONS)(rng, record)
    return Made(number, _written(rng, record), touched=True)


def _written(rng: random.Random, record: Record) -> str:
    text = json.dumps(record, ensure_ascii=rng.random() < 0.5)
    if "\ud800" in text or "\udcff" in text:
        text = json.dumps(record)  # as an escape; no file holds it otherwise
    if text == "{}":
        return text
    if rng.random() < 0.1:
        return text[:-1] + f', "more": {rng.choice(RAW)}}}'
    if rng.random() < 0.05:
        return text[:-1] + ', "id": "again"}'
    return text


def _turns(record: Record) -> list[Any]:
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        record["conversations"] = turns = [{"from": "human", "value": "<image>"}]
    return turns


def _other_value(rng: random.Random, record: Record) -> None:
    record[rng.choice((*record, "more"))] = rng.choice(VALUES)


def _other_text(rng: random.Random, record: Record) -> None:
    record[rng.choice(("id", "image", "task", "note"))] = rng.choice(TEXTS)


def _text_in_turn(rng: random.Random, record: Record) -> None:
    rng.choice(_turns(record) or [{}])
    place = rng.randrange(len(record["conversations"]))
    record["conversations"][place] = {"from": "gpt", "value": rng.choice(TEXTS)}


def _role(rng: random.Random, record: Record) -> None:
    turn = rng.choice(_turns(record))
    if isinstance(turn, dict):
        turn["from"] = rng.choice(("user", "assistant", "system", "gpt", "human", "", None, []))


def _value_of_turn(rng: random.Random, record: Record) -> None:
    turns = _turns(record)
    turns[rng.randrange(len(turns))] = rng.choice(VALUES)


def _more_turns(rng: random.Random, record: Record) -> None:
    turns = _turns(record)
    record["conversations"] = turns * rng.choice((2, 3, 50)) + turns[: rng.randrange(2)]


def _fewer_turns(rng: random.Random, record: Record) -> None:
    turns = _turns(record)
    del turns[rng.randrange(len(turns))]


def _lost_key(rng: random.Random, record: Record) -> None:
    if record:
        del record[rng.choice(list(record))]


def _renamed_key(rng: random.Random, record: Record) -> None:
    if record:
        record[rng.choice(TEXTS[:8])] = record.pop(rng.choice(list(record)))


def _more_keys(rng: random.Random, record: Record) -> None:
    record |= {f"key {n}": rng.choice(VALUES[:9]) for n in range(rng.choice((1, 3, 60)))}


def _nested(rng: random.Random, record: Record) -> None:
    value: Any = rng.choice(TEXTS[:20])
    for _ in range(rng.choice((5, 60, 98, 99, 200))):
        value = {"a": value} if rng.random() < 0.5 else [value]
    record["note"] = value


def _large(rng: random.Random, record: Record) -> None:
    record["note"] = "x" * (HUGE if rng.random() < 0.003 else rng.choice((20_000, 200_000)))


def _other_form(rng: random.Random, record: Record) -> None:
    record.pop("conversations", None)
    record |= rng.choice(OTHER_FORMS)


def _image_path(rng: random.Random, record: Record) -> None:
    record["image"] = rng.choice(
        ("gone.png", "../images/0.png", "images", "images/0.png/", "http://x/y.png", "a" * 5000,
         ["images/0.png"], {"bytes": "", "path": "images/0.png"}, "images/0\x00.png", "/images/0.png")
    )  # fmt: skip


def _twin(rng: random.Random, record: Record) -> None:
    record |= {"id": "twin", "task": "twins", "image": "images/0.png", "conversations": []}


MUTATIONS: tuple[Mutation, ...] = (
    _other_value, _other_text, _text_in_turn, _role, _value_of_turn, _more_turns, _fewer_turns,
    _lost_key, _renamed_key, _more_keys, _nested, _large, _other_form, _image_path, _twin,
)  # fmt: skip


def broken(rng: random.Random, line: bytes) -> bytes:
    """A line, or another run of bytes, with a few of them changed, lost or put in."""
    content = bytearray(line)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(content)) if content else 0
        kind = rng.randrange(4)
        if kind == 0 and content:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[place : place + rng.choice((1, 3, 20))]
        elif kind == 2:
            content[place:place] = rng.choice(
                (b'"', b"\\", b"{", b"]", b",", b"\xff", b"\x00", b"\xc3")
            )
        else:
            del content[place:]
    return bytes(content).replace(b"\n", b" ").replace(b"\r", b" ") or b"x"
