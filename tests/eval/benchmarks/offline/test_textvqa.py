from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.offline import TextVQA
from presel_lightning.eval.benchmarks.offline.vqa_answer import normalise_vqa, soft_accuracy


def test_textvqa_questions_hold_ocr_tokens(textvqa: Path) -> None:
    items = TextVQA(str(textvqa)).items()
    assert items[0].question == (
        "what is the brand of this camera?\nReference OCR token: DAKOTA, DIGITAL\n"
        "Answer the question using a single word or phrase."
    )
    assert items[2].question == (
        "What does it say?\nAnswer the question using a single word or phrase."
    )
    assert items[1].image.name == "003a8ae2ef43b901.jpg" and items[1].answer == "noon"


def test_textvqa_without_ocr_asks_the_bare_question(textvqa: Path) -> None:
    (textvqa.parent / "llava_textvqa_val_v051_ocr.jsonl").unlink()
    with pytest.raises(UserError, match=r"ocr.jsonl: no such file.*`ocr: null` asks without"):
        TextVQA(str(textvqa)).items()
    items = TextVQA(str(textvqa), ocr=None).items()
    assert items[0].question == (
        "what is the brand of this camera?\nAnswer the question using a single word or phrase."
    )


def test_textvqa_score_matches_a_hand_computation(textvqa: Path) -> None:
    # ten of ten; three of ten match: 3 x 2/3 + 7 x 1 over ten; the possessive is set apart alike
    score = TextVQA(str(textvqa)).score(["Dakota.", "10:10", "dog's bowl"])
    assert score.score == pytest.approx(100 * (1 + 0.9 + 1) / 3) and score.n == 3
    # two annotators answered ten, which is 10
    assert TextVQA(str(textvqa)).score(["x", "10", "x"]).score == pytest.approx(100 * 0.6 / 3)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Cat's Hat!", "cat 's hat"),
        ("1,000", "1000"),
        ("3.5 o.k.", "3.5 ok"),
        ("coca-cola", "coca cola"),
        ("coca- cola", "coca cola"),
        ("a-b c -d", "ab c d"),  # a mark that stands at a space anywhere is taken out everywhere
        ("None", "0"),
        ("thats\nten", "that's 10"),
        ("shouldnt've", "shouldn't've"),
        ("the", ""),
    ],
)
def test_normalise_vqa_matches_the_published_rules(text: str, normal: str) -> None:
    assert normalise_vqa(text) == normal


@given(st.integers(0, 10))
def test_soft_accuracy_is_the_mean_over_nine_of_ten(agreeing: int) -> None:
    people = ["yes"] * agreeing + ["no"] * (10 - agreeing)
    nine = [people[:i] + people[i + 1 :] for i in range(10)]
    expected = sum(min(1, some.count("yes") / 3) for some in nine) / 10
    assert soft_accuracy("Yes", people) == pytest.approx(expected)


def test_textvqa_question_without_prompt_raises_user_error(textvqa: Path) -> None:
    prompts = textvqa.parent / "llava_textvqa_val_v051_ocr.jsonl"
    prompts.write_text("\n".join(prompts.read_text().splitlines()[:2]))
    with pytest.raises(UserError, match="no prompt for question 34604 of 00c359f294f7dcd9"):
        TextVQA(str(textvqa)).items()


def test_textvqa_question_without_ten_answers_raises_user_error(textvqa: Path) -> None:
    content = json.loads(textvqa.read_text())
    content["data"][1]["answers"].pop()
    textvqa.write_text(json.dumps(content))
    with pytest.raises(UserError, match="question 34603 has not 10 answers"):
        TextVQA(str(textvqa)).items()


def test_textvqa_fingerprint_depends_on_ocr_tokens(textvqa: Path) -> None:
    with_tokens, without = TextVQA(str(textvqa)), TextVQA(str(textvqa), ocr=None)
    assert with_tokens.fingerprint() == TextVQA(str(textvqa)).fingerprint() != without.fingerprint()
