from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.annotators.matching import check, from_turns
from presel_lightning.annotators.replies import Malformed, Refused, conversation_of
from presel_lightning.data.conversation import InvalidRecordError
from presel_lightning.records import Turn

TURNS = {"turns": [{"question": "What stands there?", "answer": "A cat."}]}
JSON = json.dumps(TURNS)
DRAFT = json.dumps({"turns": [{"question": "Draft?", "answer": "Draft."}]})
EXPECTED = [
    {"from": "human", "value": "<image>\nWhat stands there?"},
    {"from": "gpt", "value": "A cat."},
]


def reply(content: Any, finish: str | None = "stop", **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **fields}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


@pytest.mark.parametrize(
    "content",
    [
        f"One object. {DRAFT} or {{so}}\n</think>\n\n{JSON}",
        f"<think>One object: {DRAFT}</think>{JSON}",
        f"{JSON}\n<thinking>Is that right? {DRAFT}</thinking>",
        f"<think>never closed, and then {JSON}",
        f"Sure [1], {{here}} it is:\n```json\n{JSON}\n```\nLet me know! {{}}",
        f"```json {JSON} ```",
        f"◁think▷{DRAFT}◁/think▷{JSON}",
        f"analysis {DRAFT}<|channel|>final<|message|>{JSON}<|return|>",
        json.dumps(TURNS["turns"]),
        json.dumps(TURNS["turns"][0]),
        f"[{JSON}]",
        json.dumps({"reply": TURNS}),
        json.dumps({"turns": TURNS["turns"][0]}),
        f'{JSON} as in {{"turns": [{{"question": "...", "answer": "..."}}]}}',
        [{"type": "text", "text": JSON}],
        [{"type": "thinking", "text": DRAFT}, {"type": "text", "text": JSON}, 3],
        [{"type": "text", "text": JSON[:20]}, {"type": "text", "text": JSON[20:]}],
    ],
)
def test_json_inside_thinking_prose_or_parts_is_read(content: Any) -> None:
    assert conversation_of(reply(content), ["a.png"]) == EXPECTED


@pytest.mark.parametrize("content", [None, "", [], " \n"])
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reply_in_reasoning_is_read_where_content_is_empty(content: Any, field: str) -> None:
    message = {field: f"One object.\n{JSON}"}
    assert conversation_of(reply(content, **message), ["a.png"]) == EXPECTED
    with pytest.raises(Malformed):
        conversation_of(reply("Done.", **message), ["a.png"])


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1.50, "1.5"), (10**30, f"1{'0' * 30}"), (False, "no")]
)
def test_numbers_and_booleans_are_answers(value: Any, text: str) -> None:
    turns = {"turns": [{"question": "How many?", "answer": value}]}
    assert conversation_of(reply(json.dumps(turns)), ["a.png"])[1]["value"] == text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("I cannot see JSON.", "no JSON"),
        (f"<think>{DRAFT}</think> I am not sure.", "no JSON"),
        (JSON[:-3], "no JSON"),
        # the first of two turns is whole, the second breaks off
        ('{"turns": [{"question": "a", "answer": "b"}, {"question": "c', "no JSON"),
        ('[{"question": "a", "answer": "b"}, {"question": "c', "no JSON"),
        ('{"question": "a", "answer": "b"}\n{"question": "c", "answer": "d"}', "no JSON"),
        ('{"turns": [{"question": "...", "answer": "..."}]}', "repeats the form"),
        ('{"turns": []}', "neither question nor answer"),
        ('{"turns": "none"}', "not a list"),
        ('{"turns": [3]}', "turn 1 is no object"),
        ('{"turns": [{"question": "a"}]}', "answer 1 is no text"),
        ('{"turns": [{"question": "a", "answer": null}]}', "answer 1 is no text"),
        ('{"turns": [{"question": "a", "answer": NaN}]}', "answer 1 is no text"),
        ('{"turns": [{"question": " ", "answer": "b"}]}', "question 1 is empty"),
        ('{"turns": [{"question": "a", "answer": "<image>"}]}', "<image>"),
        ("[" * 100_000, "no JSON"),
        ('{"a": [' * 500 + '{"question": "a", "answer": "b"}', "no JSON"),
        ([{"type": "image_url", "image_url": {}}], "no text"),
        (7, "no text"),
    ],
)
def test_reply_without_the_instruction_is_malformed_with_reason(content: Any, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        conversation_of(reply(content), ["a.png"])


def test_cut_off_reply_is_malformed_and_refusal_is_refused() -> None:
    with pytest.raises(Malformed, match="max_tokens") as caught:
        conversation_of(reply(JSON, "length"), ["a.png"])
    assert "init_args" not in caught.value.reason  # what the model is told
    parts = [{"type": "refusal", "refusal": "No."}]
    for refused in (reply(JSON, "content_filter"), reply(None, refusal="No."), reply(parts)):
        with pytest.raises(Refused):
            conversation_of(refused, ["a.png"])


texts = st.text(max_size=12) | st.sampled_from(
    ["</think>", "<think>", "```", '{"turns": []}', "{", "\\", "\n", '"', "0"]
)
turns = st.lists(st.builds(Turn, texts, texts), min_size=1, max_size=3)
prose = st.text(alphabet=st.sampled_from("{}[]:,`\"'\\ \nab1"), max_size=16)
tags = st.sampled_from(["think", "thinking", "thought", "reasoning"])
layers = st.lists(
    st.tuples(st.sampled_from(["prose", "fence", "think", "close", "parts"]), prose, prose, tags),
    max_size=4,
)


@given(turns=turns, layers=layers, indent=st.none() | st.integers(0, 2), plain=st.booleans())
def test_any_json_in_any_mix_of_wrappings_is_read(
    turns: list[Turn], layers: list[Any], indent: int | None, plain: bool
) -> None:
    entries = [{"question": turn.question, "answer": turn.answer} for turn in turns]
    content: Any = json.dumps({"turns": entries}, indent=indent, ensure_ascii=plain)
    try:
        check(["a.png"], from_turns(turns))
    except InvalidRecordError:
        with pytest.raises(Malformed):
            conversation_of(reply(content), ["a.png"])
        return
    parts = False
    for kind, before, after, tag in layers:
        parts = parts or kind == "parts"
        content = {
            "prose": f"{before}{content}{after}",
            "fence": f"{before}\n```json\n{content}\n```{after}",
            "think": f"<{tag}>{before}{DRAFT}{after}</{tag}>{content}",
            "close": f"{before}{DRAFT}{after}</{tag}>{content}",
            "parts": content,
        }[kind]
    content = [{"type": "text", "text": content}] if parts else content
    assert conversation_of(reply(content), ["a.png"]) == from_turns(turns)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "turns", "question", "text", "type"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(value=values, whole=st.booleans(), before=prose)
def test_any_other_reply_is_malformed(value: Any, whole: bool, before: str) -> None:
    """No `answer` anywhere, so that nothing of it is an instruction."""
    other = value if whole else reply(before + json.dumps(value))
    with pytest.raises(Malformed):
        conversation_of(other, ["a.png"])
    with pytest.raises(Malformed):
        conversation_of(reply(value), ["a.png"])
