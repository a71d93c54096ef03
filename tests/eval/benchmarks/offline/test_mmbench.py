from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.offline import MMBench
from presel_lightning.eval.benchmarks.offline.mmbench import option_of, rotations


def test_mmbench_items_hold_every_option_rotation(mmbench: Path, tmp_path: Path) -> None:
    items = MMBench(str(mmbench)).items()
    assert [(item.uid, item.answer) for item in items] == [
        ("241-B", "B"),
        ("1000241-A", "A"),
        ("252-A", "A"),
        ("252-C", "C"),
        ("252-B", "B"),
    ]
    assert items[0].question == (
        "Look closely.\nWhich is right?\nA. one\nB. two\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert items[3].question.startswith("What colour is it?\nA. blue\nB. green\nC. red\nAnswer")
    # the second row's image is that of row 241, kept once
    assert items[0].image == items[1].image != items[2].image
    assert items[0].image.is_relative_to(tmp_path / "cache") and items[0].image.is_file()


def test_mmbench_counts_only_answers_correct_in_all_rotations(mmbench: Path) -> None:
    benchmark = MMBench(str(mmbench))
    score = benchmark.score(["B", "A", "A", "A", "B"])
    assert score.n == 2 and score.score == 50
    assert score.answer_credits(5) == [1, 1, 1, 0, 1] and score.answer_credits(2) is None
    assert score.tasks == {"attribute_reasoning": 100, "coarse_perception": 0}
    assert benchmark.score(["B.", "two", "red", "C. red", "(B)"]).score == 100
    assert benchmark.score(["B", "B", "A", "C", "B"]).tasks["attribute_reasoning"] == 0


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("a", "A"),
        ("B.", "B"),
        ("(C)", "C"),
        ("C. green", "C"),
        ("It is A", "A"),
        ("A thing that is blue", "B"),
        ("red or blue", None),
        ("D", None),
        ("A B", None),
        ("", None),
    ],
)
def test_option_of_parses_answers_without_a_judge(answer: str, letter: str | None) -> None:
    assert option_of(answer, ("red", "blue", "green")) == letter


def test_rotations_track_the_correct_option() -> None:
    for options, answer in rotations(("w", "x", "y", "z"), "C"):
        assert options["ABCD".index(answer)] == "y"
    assert len(set(rotations(("w", "x", "y", "z"), "C"))) == 4


def test_mmbench_cn_uses_the_chinese_prompt(mmbench: Path) -> None:
    benchmark = MMBench(str(mmbench), language="cn")
    assert benchmark.name == "MMB-cn"
    assert benchmark.items()[0].question.endswith("B. two\n请直接回答选项字母。")
    assert benchmark.fingerprint() != MMBench(str(mmbench), name="MMB-cn").fingerprint()


def test_mmbench_reads_cells_larger_than_the_csv_limit(mmbench: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    cell = base64.b64encode(stream.getvalue()).decode()
    limit = csv.field_size_limit()
    assert len(cell) > limit
    mmbench.write_text(mmbench.read_text().replace("\t241\t", f"\t{cell}\t"))
    assert MMBench(str(mmbench)).items()[1].image.read_bytes() == stream.getvalue()
    assert csv.field_size_limit() == limit


def test_mmbench_split_without_answers_raises_user_error(mmbench: Path) -> None:
    mmbench.write_text(mmbench.read_text().replace("two\t\t\tB\t", "two\t\t\t\t"))
    with pytest.raises(UserError, match="row 241 has no answer among its options"):
        MMBench(str(mmbench)).items()


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("\tanswer\t", "\tsolution\t", "no column answer"),
        ("1000241\t", "241\t", "an index '241'"),
        ("\t241\t", "\t77\t", "cannot be used"),
        ("\t241\t", "\t*\t", "question 241 has no base64 image"),
        ("\t241\t", "\tAAAA\t", "not_an_image"),
    ],
)
def test_mmbench_invalid_layout_raises_user_error(
    mmbench: Path, old: str, new: str, what: str
) -> None:
    mmbench.write_text(mmbench.read_text().replace(old, new))
    with pytest.raises(UserError, match=what):
        MMBench(str(mmbench)).items()
