from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment

from presel_lightning.data.conversation import InvalidRecordError, is_text_only, parse
from presel_lightning.errors import UserError
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.loading.templates import TEMPLATES
from presel_lightning.models import load_processor
from presel_lightning.records import Turn, image_first

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
TURNS = (Turn("What?", "A dog"), Turn("Sure?", "yes"))


def record_of(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ("human", "gpt")
    entries = [{"from": roles[i % 2], "value": text} for i, text in enumerate(texts)]
    return {"image": "a.jpg", "conversations": entries, **more}


def entry(role: str, value: Any) -> dict[str, Any]:
    return {"from": role, "value": value}


@pytest.mark.parametrize(
    "question",
    ["<image>\nWhat?", "What?\n<image>", "<image> <image>What?", "<image>\n\n What? <image>"],
)
def test_parse_removes_the_image_token_at_any_position(question: str) -> None:
    assert parse(record_of(question, "A dog", "Sure?", "yes")) == TURNS


def test_parse_keeps_the_image_in_its_own_turn() -> None:
    turns = parse(record_of("What? ", "A dog", "Sure <image> ?", "yes", "<image>", "no"))
    assert [turn.image_here for turn in turns] == [False, True, False]
    rendered = TEMPLATES["vicuna_bare"].render(turns, with_question=True)
    assert rendered.text.count("<image>") == 1 and "USER: <image>\nSure  ? ASS" in rendered.text
    without = TEMPLATES["vicuna_bare"].render(turns, with_question=False).text
    assert without == "USER: <image> ASSISTANT: A dog yes no</s>"


def published(questions: list[str]) -> list[str]:
    """LLaVA's `preprocess_multimodal`, as its rule is published."""
    found = []
    for text in questions:
        if "<image>" in text:
            text = text.replace("<image>", "").strip()
            text = ("<image>\n" + text).strip()
        found.append(text)
    return found


@given(
    st.lists(st.sampled_from(["", "a", " b ", "c\nd", "  "]), min_size=1, max_size=4),
    st.integers(0, 3),
    st.sampled_from(["<image>\n{}", "{}\n<image>", "<image>{}<image>", "{} <image> {}"]),
)
def test_render_places_the_image_like_llava_preprocess(
    texts: list[str], place: int, form: str
) -> None:
    place %= len(texts)
    texts[place] = form.format(*[texts[place]] * 2)
    turns = parse(record_of(*[text for question in texts for text in (question, "A")]))
    rendered = TEMPLATES["vicuna_bare"].render(turns, with_question=True)
    written = "".join(
        " ".join(part for part in ("USER:", question, "ASSISTANT: A</s>") if part)
        for question in published(texts)
    )
    assert rendered.text == written


@pytest.mark.parametrize("record", [{"image": "a"}, {"image": "a", "conversations": []}])
def test_parse_record_without_instruction_returns_no_turns(record: dict[str, Any]) -> None:
    assert parse(record) == () and not is_text_only(record)


def test_is_text_only_record_without_image_is_true() -> None:
    record = record_of("Hi", "Hello")
    del record["image"]
    assert is_text_only(record) and parse(record) == (Turn("Hi", "Hello"),)


FAULTS = [
    (record_of(conversations="hi"), "conversations_not_a_list"),
    (record_of(conversations={}), "conversations_not_a_list"),
    (record_of("<image>Q"), "turn_without_answer"),
    (record_of("<image>Q", "A", "Q"), "turn_without_answer"),
    (record_of("<image>Q", ""), "empty_answer"),
    (record_of("<image>Q", "A", "Q", " \n"), "empty_answer"),
    (record_of("Q", "A"), "image_without_token"),
    (record_of("Q", "<image>A"), "image_token_in_answer"),
    (record_of("<image>Q", "A", image=None), "image_token_without_image"),
    (record_of("<image>Q", "A", image=["a", "b"]), "image_token_count"),
    (record_of("<image>Q<image>", "A", "<image>", "A", image=["a", "b"]), "image_token_count"),
    (record_of("Q", "A", image=["a", "b"]), "image_without_token"),
    (record_of("<image>Q", "A", image=["a", 5]), "image_not_a_path"),
    (record_of("<image>Q", "A", image=[]), "image_not_a_path"),
    (record_of("<image>Q", "A", image=5), "image_not_a_path"),
    (record_of("<image>Q", "A", image=""), "image_not_a_path"),
    (record_of(conversations=["hi"]), "bad_turn"),
    (record_of(conversations=[entry("human", None), entry("gpt", "A")]), "bad_turn"),
    (
        record_of(conversations=[entry("human", "<image>"), entry("human", "A")]),
        "roles_not_alternating",
    ),
    (
        record_of(conversations=[entry("gpt", "A"), entry("human", "<image>")]),
        "roles_not_alternating",
    ),
    *(
        (record_of(conversations=[entry("human", "<image>"), entry(role, "A")]), "unknown_role")
        for role in ("assistant", "user", "system", "GPT")
    ),
]


@pytest.mark.parametrize(("record", "problem"), FAULTS)
def test_parse_invalid_record_raises_its_problem(record: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidRecordError) as odd:
        parse(record)
    assert odd.value.problem == problem and str(odd.value)
    assert not is_text_only(record)


def test_vicuna_template_renders_text_and_answer_spans() -> None:
    rendered = TEMPLATES["vicuna_v1"].render(TURNS, with_question=True)
    assert rendered.text == (
        f"{SYSTEM} USER: <image>\nWhat? ASSISTANT: A dog</s>USER: Sure? ASSISTANT: yes</s>"
    )
    answers = [rendered.text[start:end] for start, end in rendered.answer_spans]
    assert answers == ["A dog</s>", "yes</s>"]


def test_llama_3_template_matches_the_official_chat_template() -> None:
    """As Llama-3's own chat template writes it, which begins the text by itself."""
    official = (
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    )
    template = TEMPLATES["llama_3"]
    chat = [{"role": "system", "content": template.system}]
    for number, turn in enumerate(TURNS):
        question = turn.question if number else f"<image>\n{turn.question}"
        chat.append({"role": "user", "content": question})
        chat.append({"role": "assistant", "content": turn.answer})
    written = Environment().from_string(official)
    rendered = template.render(TURNS, with_question=True)
    assert rendered.text == written.render(messages=chat)
    answers = [rendered.text[start:end] for start, end in rendered.answer_spans]
    assert answers == ["A dog<|eot_id|>", "yes<|eot_id|>"]
    invited = written.render(messages=chat[:-1], add_generation_prompt=True)
    assert template.prompt(TURNS[:1], TURNS[1].question) == invited


def test_render_without_question_keeps_image_and_answers() -> None:
    rendered = TEMPLATES["vicuna_v1"].render(TURNS, with_question=False)
    assert rendered.text == f"{SYSTEM} USER: <image> ASSISTANT: A dog yes</s>"
    ((start, end),) = rendered.answer_spans
    assert rendered.text[start:end] == "A dog yes</s>"


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("n_before", [0, 1])
def test_prompt_is_a_prefix_of_the_training_text(template: str, n_before: int) -> None:
    prompt = TEMPLATES[template].prompt(TURNS[:n_before], TURNS[n_before].question)
    whole = TEMPLATES[template].render(TURNS[: n_before + 1], with_question=True).text
    joint, stop = TEMPLATES[template].joint, TEMPLATES[template].stop
    assert whole == f"{prompt}{joint}{TURNS[n_before].answer}{stop}"


def test_prompt_places_the_image_before_the_question() -> None:
    prompt = TEMPLATES["vicuna_bare"].prompt((), "What?\n<image>")
    assert prompt == "USER: <image>\nWhat? ASSISTANT:"


def test_encoder_moves_an_image_past_max_length_to_the_front() -> None:
    turns = (Turn("What colour is it?", "red"), Turn("Sure?", "yes", image_here=True))
    first = image_first(turns)
    processor = load_processor("quickstart")
    whole = Encoder("vicuna_bare", processor, 999)
    assert whole(turns) != whole(first)
    length = len(whole(turns[:1], image=False).input_ids) + processor.n_image_tokens
    cut = Encoder("vicuna_bare", processor, length)
    assert cut(turns) == cut(first)
    assert cut(turns, with_question=False) == cut(first, with_question=False)
    with pytest.raises(UserError, match=r"data\.max_length"):
        Encoder("vicuna_bare", processor, 5)(turns)
