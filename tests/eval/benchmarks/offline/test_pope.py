from __future__ import annotations

import json
from pathlib import Path

import pytest

from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.offline import POPE
from presel_lightning.eval.benchmarks.offline.pope import says_yes


def test_pope_questions_match_llava(pope: Path) -> None:
    items = POPE(str(pope)).items()
    assert len(items) == 12 and [item.task for item in items[::4]] == [
        "random",
        "popular",
        "adversarial",
    ]
    assert items[0].question == (
        "Is there a dog in the image?\nAnswer the question using a single word or phrase."
    )
    assert items[0].answer == "yes" and items[2].answer == "no"
    assert items[3].image.name == "COCO_val2014_000000000002.jpg" and items[3].image.is_file()


def test_pope_score_matches_a_hand_computation(pope: Path) -> None:
    # labels yes yes no no; TP 2 FP 1, then TP 1 FP 0 FN 1, then never yes
    said = ["yes", "Yes, it is.", "Yes", "no", "yes", "No.", "no", "There is not", *["no"] * 4]
    score = POPE(str(pope)).score(said)
    assert score.n == 12
    assert score.tasks["random F1"] == pytest.approx(80)
    assert score.tasks["random precision"] == pytest.approx(200 / 3)
    assert score.tasks["random recall"] == pytest.approx(100)
    assert score.tasks["random yes"] == pytest.approx(75)
    assert score.tasks["popular F1"] == pytest.approx(200 / 3)
    assert score.tasks["popular accuracy"] == pytest.approx(75)
    assert score.tasks["adversarial F1"] == 0 and score.tasks["adversarial accuracy"] == 50
    assert score.score == pytest.approx((80 + 200 / 3 + 0) / 3)
    assert score.answer_credits(12) == [1, 1, 0, 1, 1, 0, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ("Yes", True),
        ("no", False),
        ("No, there is none", False),
        ("There is not one", False),
        ("It is a cat. No dog", True),
        ("NO", True),
        ("nothing", True),
        ("", True),
    ],
)
def test_pope_answer_parsing_matches_the_published_rules(answer: str, yes: bool) -> None:
    assert says_yes(answer) is yes


def test_pope_missing_category_file_is_named(pope: Path) -> None:
    (pope / "coco_pope_popular.json").unlink()
    with pytest.raises(UserError, match=r"POPE: .*0 files are called \*_pope_popular.json"):
        POPE(str(pope)).items()


def test_pope_invalid_label_is_named(pope: Path) -> None:
    record = {"question_id": 1, "image": "x.jpg", "text": "Is there?", "label": "maybe"}
    (pope / "coco_pope_random.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="label 'maybe'"):
        POPE(str(pope)).items()
