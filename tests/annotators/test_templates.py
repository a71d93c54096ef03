from __future__ import annotations

import pytest

from presel_lightning.annotators import prompt_for
from presel_lightning.annotators.templates import TEMPLATES, kind_of


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("object_vqa", "vqa"),
        ("vqav2_okvqa", "vqa"),
        ("gqa", "vqa"),
        ("aokvqa", "choice"),
        ("multiple_choice", "choice"),
        ("OCR_VQA", "ocr"),
        ("textvqa", "ocr"),
        ("textcaps", "caption"),
        ("llava_detail", "caption"),
        ("llava_reasoning", "reasoning"),
        ("llava_conversation", "conversation"),
        ("refcoco", "grounding"),
        ("count", "count"),
        ("country_of_origin", "default"),
        ("texture", "default"),
        ("composition", "default"),
        ("holiday photos", "default"),
    ],
)
def test_task_name_determines_the_prompt_template(task: str, kind: str) -> None:
    assert kind_of(task) == kind
    assert prompt_for(task) == TEMPLATES[kind]


def test_user_templates_override_the_built_in_ones() -> None:
    own = {"gqa": "of the task", "vqa": "of the kind", "default": "of the rest"}
    tasks = ("gqa", "object_vqa", "holidays", "ocr")
    assert [prompt_for(task, own) for task in tasks] == [
        "of the task",
        "of the kind",
        "of the rest",
        "of the rest",
    ]
