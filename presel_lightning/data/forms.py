"""Records of every known form brought to one, LLaVA's: what readers hand on is this form alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from presel_lightning.data.conversation import IMAGE, SYSTEMS, InvalidRecordError
from presel_lightning.data.entries import Entry, Fault, Record
from presel_lightning.data.fields import shown_first, turns_of
from presel_lightning.data.values import AnswerLists, picked, text_of

MEDIA = ("video", "videos", "audio", "audios")
"""Fields of what no pool of images holds."""
PAIR = ("question", "answer")
FORMS = ("conversations", "messages", "texts", *PAIR, *SYSTEMS, *MEDIA)
"""Fields that are read beside the image, the id and the task."""
SPOKEN = ("conversations", "messages", "texts", "answer")
"""Fields that hold a conversation."""
ROLES = {"user": "human", "assistant": "gpt"}
"""Roles of messages, and those of LLaVA's form."""
TEXT_PARTS = ("text", "input_text", "output_text")
IMAGE_PARTS = ("image", "image_url", "input_image")
"""Types of the parts of a message."""
SPECIAL = frozenset((*MEDIA, *SYSTEMS, "images", "messages", "texts", "answer"))
"""Fields that another form than LLaVA's has."""


def adopted(record: Record, lists: AnswerLists = "refuse") -> Record:
    """The record in LLaVA's form: `image`, a list where it has several, and `conversations` of texts.

    A conversation is read from `conversations`, else `messages` (role and content, as chat models
    take them), else `texts` (objects of `user` and `assistant`), else `question` and `answer`: the
    first that is not empty. Of the last three the image goes to the front of the first question,
    unless a question shows it; several images go there too, in order, wherever no question shows one.
    `images` of one is its image; a system message becomes `system`.
    What is no such form is left as it is, for `parse` to refuse.

    Args:
        record: of any source.
        lists: what becomes of an answer that is a list; see `picked`.

    Raises:
        InvalidRecordError: it has a video or sound, or a value that is no text.
    """
    if _is_plain(record):
        return record
    _refuse_media(record)
    record = dict(record)
    said = _conversation(record, lists)
    image = _image(record, said)
    for name in ("images", *said.used) if _names_files(record.get("images")) else said.used:
        record.pop(name, None)
    if image is not None or "image" in record:
        record["image"] = image
    for name in SYSTEMS:
        if name in record:
            record[name] = text_of(record[name], name)
    if said.entries is not None:
        record["conversations"] = _shown(said, image)
    if said.system and not any(record.get(name) for name in SYSTEMS):
        record["system"] = said.system
    return record


def captioned(record: Record, key: str | None) -> Record:
    """The record with its caption as the answer to no question, where it has one and no conversation."""
    caption = record.get(key) if key else None
    if caption in (None, "") or any(record.get(name) for name in SPOKEN):
        return record
    return {**record, "question": "", "answer": caption}


def adopt(entry: Entry, lists: AnswerLists = "refuse", caption_key: str | None = None) -> Entry:
    """Bring the record of an entry to LLaVA's form; what cannot be brought there is its fault."""
    if entry.fault is None:
        try:
            entry.record = adopted(captioned(entry.record, caption_key), lists)
        except InvalidRecordError as odd:
            entry.fault = Fault(odd.problem, str(odd))
    return entry


@dataclass
class _Said:
    """What a record says.

    Attributes:
        entries: in LLaVA's form; None where no field holds a conversation.
        system: its system message.
        images: paths of the images that its messages hold.
        shows: whether each question must show the image itself, as in `conversations`.
        used: other fields that it was read from.
    """

    entries: list[Any] | None = None
    system: str = ""
    images: list[Any] = field(default_factory=list)
    shows: bool = False
    used: tuple[str, ...] = ()


def _is_plain(record: Record) -> bool:
    """Whether a record has LLaVA's form already, as most have."""
    if not SPECIAL.isdisjoint(record):
        return False
    image, entries = record.get("image"), record.get("conversations")
    if not (image is None or isinstance(image, str)):
        return False
    return entries is None or (isinstance(entries, list) and all(map(_is_turn, entries)))


def _is_turn(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("value"), str):
        return False
    return entry.get("from") in ("human", "gpt")


def _refuse_media(record: Record) -> None:
    for name in MEDIA:
        if record.get(name):
            kind = name.removesuffix("s")
            raise InvalidRecordError(kind, f"`{name}` is given; a pool holds images only")


def _conversation(record: Record, lists: AnswerLists) -> _Said:
    if said := record.get("conversations"):
        is_chat = isinstance(said, list) and isinstance(said[0], dict) and "role" in said[0]
        return _messages(said) if is_chat else _turns(said, lists)
    if said := _listed(record.get("messages"), "messages"):
        is_llava = isinstance(said[0], dict) and "from" in said[0]
        read = _turns(said, lists) if is_llava else _messages(said)
        return replace(read, shows=False, used=("messages",))
    if said := _listed(record.get("texts"), "texts"):
        return replace(_pairs(said, lists), used=("texts",))
    if "answer" in record:
        pair = {"user": record.get("question"), "assistant": record["answer"]}
        return replace(_pairs([pair], lists), used=PAIR)
    return _Said()


def _listed(value: object, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRecordError(
            "conversations_not_a_list", f"`{name}` is a {type(value).__name__}"
        )
    return value


def _turns(entries: Any, lists: AnswerLists) -> _Said:  # noqa: ANN401 - any JSON value
    """What `conversations` say; numbers become texts, and all else is left to `parse`."""
    if not isinstance(entries, list):
        return _Said(entries, shows=True)
    first = entries[0]
    has_system = isinstance(first, dict) and first.get("from") == "system"
    turns = [_turn(entry, lists) for entry in entries[has_system:]]
    return _Said(turns, text_of(first.get("value"), "system") if has_system else "", shows=True)


def _turn(entry: Any, lists: AnswerLists) -> Any:  # noqa: ANN401 - any JSON value
    value = entry.get("value") if isinstance(entry, dict) else None
    if isinstance(value, str) or value is None or isinstance(value, dict):
        return entry
    value = picked(value, lists) if entry.get("from") == "gpt" else value
    return {**entry, "value": text_of(value, "value")}


def _messages(entries: list[Any], behind: str = "\n") -> _Said:
    """What `messages` say; what stands behind an image is nothing where they hold several."""
    said = _Said([])
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise InvalidRecordError("bad_turn", f"message {number} is no object")
        role, content = entry.get("role"), entry.get("content")
        text = _content(content, number, said.images, behind)
        if number == 1 and role in ("system", "developer"):
            said.system = text
        else:
            name = ROLES.get(role, role) if isinstance(role, str) else role
            said.entries.append({"from": name, "value": text})  # type: ignore[union-attr]
    return _messages(entries, "") if behind and len(said.images) > 1 else said


def _content(content: object, number: int, images: list[Any], behind: str) -> str:
    """Text of a message; an image in it becomes `<image>`."""
    if not isinstance(content, list):
        return text_of(content, "content")
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in TEXT_PARTS:
            texts.append(text_of(part.get("text"), "text"))
        elif kind in IMAGE_PARTS:
            texts.append(f"{IMAGE}{behind}")
            images.append(_reference(part))
        else:
            name = next((m for m in ("video", "audio") if m in str(kind)), "bad_turn")
            raise InvalidRecordError(name, f"a part of message {number} is of type {kind!r:.40}")
    return "".join(texts)


def _reference(part: Record) -> object:
    """Path that a part gives for its image; None where it gives none."""
    given = next((part[n] for n in ("image", "image_url", "path", "url") if part.get(n)), None)
    return given.get("url") or given.get("path") if isinstance(given, dict) else given


def _pairs(pairs: list[Any], lists: AnswerLists) -> _Said:
    """What pairs of `user` and `assistant` say."""
    texts = []
    for number, pair in enumerate(pairs, start=1):
        if not isinstance(pair, dict):
            raise InvalidRecordError("bad_turn", f"entry {number} of `texts` is no object")
        question = text_of(pair.get("user"), "question")
        texts.append((question, text_of(picked(pair.get("assistant"), lists), "answer")))
    return _Said(turns_of(texts))


def _shown(said: _Said, image: object) -> Any:  # noqa: ANN401 - any JSON value
    """The entries, with the image shown; those that are no turns are left to `parse`."""
    entries = [] if said.entries is None else said.entries
    if not isinstance(entries, list):
        return entries
    several = len(image) if isinstance(image, list) else 0
    if (said.shows and not several) or image is None or not all(map(_is_turn, entries)):
        return said.entries
    return shown_first(entries, several or 1)


def _image(record: Record, said: _Said) -> object:
    """The image of a record, or the list of several: of `image`, `images` or its messages.

    The one that names the most counts, of equal ones the first; a path that is repeated, and no other
    beside it, is one image.
    """
    found: list[object] = []
    several = record.get("images")
    for given in (record.get("image"), several if _names_files(several) else None, said.images):
        each = given if isinstance(given, list) else [given]
        paths = [_path(one) for one in each if one is not None]
        if all(path == paths[0] for path in paths):
            paths = paths[:1]
        found = max(found, paths, key=len)
    return found if len(found) > 1 else found[0] if found else None


def _names_files(images: object) -> bool:
    """Whether `images` are files of this record, and not the table of another form (COCO)."""
    entries = images if isinstance(images, list) else [images]
    return all(
        entry is None
        or isinstance(entry, str)
        or (isinstance(entry, dict) and not {"path", "bytes"}.isdisjoint(entry))
        for entry in entries
    )


def _path(image: object) -> object:
    """Path of an image; `datasets` writes it as an object beside the bytes."""
    return image.get("path") or image if isinstance(image, dict) else image
