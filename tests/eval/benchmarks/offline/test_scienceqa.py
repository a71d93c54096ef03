from __future__ import annotations

import json
from pathlib import Path

import pytest

from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.offline import ScienceQA
from presel_lightning.eval.benchmarks.offline.scienceqa import letter_of


def test_scienceqa_items_are_image_questions_of_the_test_split(scienceqa: Path) -> None:
    items = ScienceQA(str(scienceqa)).items()
    assert [(item.uid, item.answer) for item in items] == [("4", "A"), ("5", "B"), ("7", "C")]
    assert items[0].question == (
        "Context: N/A\nQuestion: Which?\nOptions: (A) red (B) green (C) blue\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert items[2].image == (scienceqa.parent / "images/test/7/image.png").resolve()


def test_scienceqa_score_matches_a_hand_computation(scienceqa: Path) -> None:
    score = ScienceQA(str(scienceqa)).score(["A", "The answer is C.", "C. blue"])
    assert score.score == pytest.approx(200 / 3) and score.n == 3
    assert score.tasks == pytest.approx({"natural science": 50, "social science": 100})


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" B\n", None),  # a line break is a full stop in the published reading
        ("B. green", "B"),
        ("B.", None),
        ("b", None),
        ("The answer is D", "D"),
        ("I say so.\nThe answer is E.", "E"),
        ("green", None),
        ("", None),
    ],
)
def test_letter_of_parses_answers_as_published(answer: str, letter: str | None) -> None:
    assert letter_of(answer) == letter


def test_scienceqa_question_without_prompt_is_named(scienceqa: Path) -> None:
    prompts = json.loads(scienceqa.read_text())
    scienceqa.write_text(json.dumps(prompts[1:]))
    with pytest.raises(UserError, match="without dict `4`"):
        ScienceQA(str(scienceqa)).items()


@pytest.mark.parametrize("name", ["problems.json", "pid_splits.json", "llava_test_CQM-A.json"])
def test_scienceqa_missing_file_is_named(scienceqa: Path, name: str) -> None:
    (scienceqa.parent / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: no such file; `questions` should be LLaVA's"):
        ScienceQA(str(scienceqa)).items()
