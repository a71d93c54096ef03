from __future__ import annotations

import json
from pathlib import Path

import pytest

from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.offline import GQA


def test_gqa_questions_match_llava(gqa: Path) -> None:
    items = GQA(str(gqa)).items()
    assert [(i.uid, i.task, i.image.name, i.answer) for i in items] == [
        ("201307251", "verify", "n161313.jpg", "no"),
        ("201640614", "query", "n235859.jpg", "woman"),
        ("202225914", "query", "n235859.jpg", "fire hydrant"),
    ]
    assert items[0].question == (
        "Is it overcast?\nAnswer the question using a single word or phrase."
    )


def test_gqa_score_matches_a_hand_computation(gqa: Path) -> None:
    score = GQA(str(gqa)).score(["No.", "the woman", "Fire hydrant"])
    assert score.score == pytest.approx(200 / 3) and score.n == 3
    assert score.tasks == pytest.approx({"query": 50, "verify": 100})
    with pytest.raises(ValueError, match="Expected 3 predictions but got 1"):
        GQA(str(gqa)).score(["no"])


def test_gqa_constructor_reads_no_file() -> None:
    benchmark = GQA("nowhere.json")
    assert benchmark.name == "GQA"
    with pytest.raises(UserError, match=r"nowhere.json: no such file; `questions` should be testd"):
        benchmark.items()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "not JSON"),
        ("[]", "a list, not a dict"),
        ("{}", "holds no question"),
        ('{"1": {"question": "Is it?"}}', "a record without dict `types`"),
        ('{"1": 5}', "a record without dict `types`"),
    ],
)
def test_gqa_invalid_layout_raises_user_error(gqa: Path, content: str, what: str) -> None:
    gqa.write_text(content)
    with pytest.raises(UserError, match=rf"benchmark GQA: .*questions.json: {what}"):
        GQA(str(gqa)).items()


def test_gqa_invalid_or_missing_images_raise_user_error(gqa: Path) -> None:
    (gqa.parent / "images" / "n161313.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"1 of 2 images.*n161313.jpg: not_an_image"):
        GQA(str(gqa)).items()
    with pytest.raises(UserError, match=r"elsewhere: no such folder; set `image_root`"):
        GQA(str(gqa), image_root=str(gqa.parent / "elsewhere")).items()


def test_gqa_image_outside_the_root_raises_user_error(gqa: Path) -> None:
    content = json.loads(gqa.read_text())
    content["201307251"]["imageId"] = "../../n161313"
    gqa.write_text(json.dumps(content))
    with pytest.raises(UserError, match="outside_root"):
        GQA(str(gqa)).items()


def test_gqa_fingerprint_depends_on_content_not_path(gqa: Path, tmp_path: Path) -> None:
    known = GQA(str(gqa)).fingerprint()
    elsewhere = gqa.parent.rename(tmp_path / "moved") / gqa.name
    assert GQA(str(elsewhere)).fingerprint() == known == json.loads(json.dumps(known))
    assert GQA(str(elsewhere), max_new_tokens=5).fingerprint() != known
    image = next((elsewhere.parent / "images").glob("*.jpg"))
    content = image.read_bytes()
    image.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])  # no other size
    assert GQA(str(elsewhere)).fingerprint() != known
    image.write_bytes(content)
    assert GQA(str(elsewhere)).fingerprint() == known
    elsewhere.write_text(elsewhere.read_text().replace("woman", "man"))
    assert GQA(str(elsewhere)).fingerprint() != known
