from __future__ import annotations

from pathlib import Path

import pytest

from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.offline import MME
from presel_lightning.eval.benchmarks.offline.mme import yes_or_no


def test_mme_questions_match_llava(mme: Path) -> None:
    items = MME(str(mme)).items()
    assert len(items) == 30  # fourteen subtasks, one with two images, two questions each
    assert items[0].question == ("Is this red?\nAnswer the question using a single word or phrase.")
    assert (items[0].answer, items[1].answer) == ("yes", "no")
    places = {item.task: item.image.relative_to(mme).as_posix() for item in items}
    assert places["position"] == "position/0001.jpg" and places["count"] == "count/images/0001.png"


def test_mme_score_matches_a_hand_computation(mme: Path) -> None:
    benchmark = MME(str(mme))
    said = [item.answer for item in benchmark.items()]
    assert benchmark.score(said).score == 2000
    # existence: one of the first image's two answers is wrong: 3/4 right, 1/2 of the images wholly
    said[1] = "Yes, it is."
    # count: one of one image's answers: 50 + 0; code_reasoning: neither right
    said[4] = "maybe"
    said[-2:] = ["No", "Yes"]
    score = benchmark.score(said)
    wrong = [row for row, right in enumerate(score.answer_credits(len(said)) or []) if not right]
    assert wrong == [1, 4, len(said) - 2, len(said) - 1]
    assert score.tasks["existence"] == pytest.approx(75 + 50)
    assert score.tasks["count"] == pytest.approx(50)
    assert score.tasks["code_reasoning"] == 0 and score.tasks["cognition"] == 600
    assert score.score == score.tasks["perception"] == pytest.approx(2000 - 75 - 150)
    assert score.n == 30


@pytest.mark.parametrize(
    ("answer", "read"),
    [("Yes", "yes"), ("no.", "no"), ("Yes, it is", "yes"), ("It is no", "other"), ("nope", "no")],
)
def test_yes_or_no_parses_answers_as_published(answer: str, read: str) -> None:
    assert yes_or_no(answer) == read


def test_mme_missing_subtask_is_named(mme: Path) -> None:
    for path in (mme / "OCR").rglob("*.txt"):
        path.unlink()
    with pytest.raises(UserError, match="OCR: no text file with questions"):
        MME(str(mme)).items()


def test_mme_image_without_two_questions_raises_user_error(mme: Path) -> None:
    (mme / "existence" / "0001.txt").write_text("Is this red? Please answer yes or no.\tYes\n")
    with pytest.raises(UserError, match=r"0001.txt: not two lines of question, tab, answer"):
        MME(str(mme)).items()


def test_mme_question_without_image_is_named(mme: Path) -> None:
    (mme / "existence" / "0002.jpg").unlink()
    with pytest.raises(UserError, match=r"0002.txt: no image of that name"):
        MME(str(mme)).items()
