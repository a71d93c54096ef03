"""Tiny files in the layouts that the benchmarks are published in."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from presel_lightning.eval.benchmarks.offline.mme import COGNITION, PERCEPTION

Json = dict[str, Any]
SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."


def picture(path: Path, colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), colour).save(path)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_lines(path: Path, records: Iterable[Json]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@pytest.fixture
def pope(tmp_path: Path) -> Path:
    """Folder `coco` with three files of four questions, `val2014` beside it."""
    for number in (1, 2):
        picture(tmp_path / "pope" / "val2014" / f"COCO_val2014_00000000000{number}.jpg")
    for category in ("random", "popular", "adversarial"):
        write_lines(
            tmp_path / "pope" / "coco" / f"coco_pope_{category}.json",
            [
                {
                    "question_id": number,
                    "image": f"COCO_val2014_00000000000{number // 2 + 1}.jpg",
                    "image_id": number // 2 + 1,
                    "text": f"Is there a {thing} in the image?",
                    "label": label,
                }
                for number, (thing, label) in enumerate(
                    [("dog", "yes"), ("cat", "yes"), ("tie", "no"), ("cup", "no")]
                )
            ],
        )
    return tmp_path / "pope" / "coco"


@pytest.fixture
def mme(tmp_path: Path) -> Path:
    """One image a subtask, two in `existence`; half of the folders keep images apart."""
    root = tmp_path / "MME_Benchmark_release_version"
    for place, subtask in enumerate((*PERCEPTION, *COGNITION)):
        folder, apart = root / subtask, place % 2 == 1
        images, texts = (
            (folder / "images", folder / "questions_answers_YN") if apart else (folder, folder)
        )
        for name in ("0001", "0002") if subtask == "existence" else ("0001",):
            picture(images / f"{name}.{'png' if apart else 'jpg'}")
            texts.mkdir(exist_ok=True)
            (texts / f"{name}.txt").write_text(
                "Is this red?  Please answer yes or no.\tYes\n"
                "Is this blue? Please answer yes or no.\tNo\n"
            )
    return root


@pytest.fixture
def scienceqa(tmp_path: Path) -> Path:
    """Five problems: three of the test split have an image, one has none, one is of training."""
    folder = tmp_path / "scienceqa"
    problems = {
        pid: {
            "question": "Which?",
            "choices": ["red", "green", "blue"],
            "answer": answer,
            "hint": "",
            "image": "image.png" if has_image else None,
            "split": "train" if pid == "9" else "test",
            "subject": subject,
            "lecture": "",
            "solution": "",
        }
        for pid, answer, has_image, subject in [
            ("4", 0, True, "natural science"),
            ("5", 1, True, "natural science"),
            ("6", 1, False, "language science"),
            ("7", 2, True, "social science"),
            ("9", 0, True, "natural science"),
        ]
    }
    write_json(folder / "problems.json", problems)
    write_json(folder / "pid_splits.json", {"train": ["9"], "test": ["4", "5", "6", "7"]})
    prompts = []
    for pid in ("4", "5", "6", "7"):
        text = "Context: N/A\nQuestion: Which?\nOptions: (A) red (B) green (C) blue"
        record: Json = {"id": pid}
        if problems[pid]["image"]:
            record["image"] = f"{pid}/image.png"
            picture(folder / "images" / "test" / pid / "image.png")
            text += "\n<image>"
        said = [
            {"from": "human", "value": text},
            {"from": "gpt", "value": "The answer is A."},
        ]
        prompts.append({**record, "conversations": said})
    write_json(folder / "llava_test_CQM-A.json", prompts)
    return folder / "llava_test_CQM-A.json"


@pytest.fixture
def textvqa(tmp_path: Path) -> Path:
    """Three questions about two images; the OCR found nothing in the second."""
    folder = tmp_path / "textvqa"
    rows = [
        (34602, "003a8ae2ef43b901", "what is the brand of this camera?", ["dakota"] * 10),
        (34603, "003a8ae2ef43b901", "What time is it?", ["10:10"] * 3 + ["ten"] * 2 + ["noon"] * 5),
        (34604, "00c359f294f7dcd9", "What does it say?", ["The dog's bowl"] * 10),
    ]
    data = [
        {
            "question_id": number,
            "image_id": image,
            "question": question,
            "question_tokens": question.split(),
            "answers": answers,
            "image_classes": [],
            "image_width": 12,
            "image_height": 9,
            "set_name": "val",
        }
        for number, image, question, answers in rows
    ]
    write_json(
        folder / "TextVQA_0.5.1_val.json",
        {
            "dataset_type": "val",
            "dataset_name": "textvqa",
            "dataset_version": "0.5.1",
            "data": data,
        },
    )
    found = ["\nReference OCR token: DAKOTA, DIGITAL", "\nReference OCR token: DAKOTA, DIGITAL", ""]
    write_lines(
        folder / "llava_textvqa_val_v051_ocr.jsonl",
        [
            {
                "question_id": image,
                "image": f"{image}.jpg",
                "text": question + ocr + SHORT,
                "category": "default",
            }
            for (_, image, question, _), ocr in zip(rows, found, strict=True)
        ],
    )
    for _, image, _, _ in rows:
        picture(folder / "train_images" / f"{image}.jpg")
    return folder / "TextVQA_0.5.1_val.json"


@pytest.fixture
def gqa(tmp_path: Path) -> Path:
    """Three questions by id, images in `images`."""
    folder = tmp_path / "gqa"
    write_json(
        folder / "testdev_balanced_questions.json",
        {
            uid: {
                "semantic": [],
                "entailed": [],
                "equivalent": [uid],
                "question": question,
                "imageId": image,
                "isBalanced": True,
                "groups": {"global": None, "local": "x"},
                "answer": answer,
                "semanticStr": "",
                "annotations": {},
                "types": {"detailed": "x", "semantic": "attr", "structural": structural},
                "fullAnswer": f"It is {answer}.",
            }
            for uid, image, question, answer, structural in [
                ("201307251", "n161313", "Is it overcast?", "no", "verify"),
                ("201640614", "n235859", "Who is wearing the dress?", "woman", "query"),
                ("202225914", "n235859", "What is small?", "fire hydrant", "query"),
            ]
        },
    )
    for image in ("n161313", "n235859"):
        picture(folder / "images" / f"{image}.jpg")
    return folder / "testdev_balanced_questions.json"


def encoded(colour: str) -> str:
    stream = io.BytesIO()
    Image.new("RGB", (12, 9), colour).save(stream, "JPEG")
    return base64.b64encode(stream.getvalue()).decode()


# fmt: off
COLUMNS = (
    "index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "source",
    "l2-category", "comment", "split",
)
# fmt: on


def write_table(path: Path, rows: list[Json]) -> None:
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(str(row.get(name, "")) for name in COLUMNS) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def mmbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Question 241 in its two rotations, and 252, of three options, in a row that needs rotating."""
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    common = {"source": "x", "split": "dev"}
    first = {
        **common,
        "question": "Which is right?",
        "category": "identity_reasoning",
        "l2-category": "attribute_reasoning",
    }
    second = {
        **common,
        "question": "What colour is it?",
        "category": "image_style",
        "l2-category": "coarse_perception",
    }
    write_table(
        tmp_path / "mmbench_dev_20230712.tsv",
        [
            {**first, "index": 241, "hint": "Look closely.", "A": "one", "B": "two", "answer": "B",
             "image": encoded("red")},
            {**second, "index": 252, "A": "red", "B": "blue", "C": "green", "answer": "A",
             "image": encoded("blue"), "hint": "nan", "D": "nan"},
            {**first, "index": 1000241, "hint": "Look closely.", "A": "two", "B": "one",
             "answer": "A", "image": "241"},
        ],
    )  # fmt: skip
    return tmp_path / "mmbench_dev_20230712.tsv"
