"""The ten tasks of LLaVA-665K, matched from records in the format of each of its sources."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from presel_lightning.cli.configs import configs_folder
from presel_lightning.data import TaskRule, build_pool, load_pool, source

LLAVA15 = yaml.safe_load((configs_folder() / "llava15.yaml").read_text())
RULES = [TaskRule(**rule) for rule in LLAVA15["data"]["task_rules"]]
SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
CAPTION = "Provide a one-sentence caption for the provided image."
DESCRIBE = "Please provide a short description for this region: "
LOCATE = "Please provide the bounding box coordinate of the region this sentence describes: "

Conversation = tuple[str, ...]


def coco(number: int) -> tuple[str, str]:
    """Id and image as the records on COCO images have them."""
    return f"{number:012d}", f"coco/train2017/{number:012d}.jpg"


def choices(question: str) -> str:
    return f"{question}\nA. fork\nB. kite\nC. lamp\nD. boat"


# (id, image), then question, answer, question, answer ...; only a first question has the suffix
SOURCES: dict[str, list[tuple[tuple[Any, str], Conversation]]] = {
    "llava_conversation": [
        (
            coco(11),
            (
                "<image>\nWhich animal sits on the wall?",
                "A grey cat sits on it.",
                "Is it awake?",
                "Yes, it looks at the camera.",
            ),
        ),
        (
            coco(12),
            (
                "How many boats are moored?\n<image>",
                "Three boats.",
                "What colour is the largest?",
                "It is blue.",
                "Could it be raining?",
                "No, the deck is dry.",
            ),
        ),
        (
            coco(13),
            (
                "<image>\nWhat do you see happening in this image?",
                "A man repairs a bicycle.",
                "Which tool does he hold?",
                "He holds a spanner.",
            ),
        ),
    ],
    "llava_detail": [
        (coco(21), ("<image>\nDescribe the following image.", "A kitchen with two windows ...")),
        (
            coco(22),
            (
                "Can you describe the main features of this image for me?\n<image>",
                "Two dogs run ...",
            ),
        ),
        (coco(23), ("What is this photo about'?\n<image>", "The photo shows a street market ...")),
        (coco(24), ("<image>\nWhat's happening in the scene?", "A train leaves a station ...")),
    ],
    "llava_reasoning": [
        (
            coco(31),
            ("<image>\nWhy might the children wear helmets?", "They ride ponies, and a fall ..."),
        ),
        (
            coco(32),
            ("What could the umbrella be used for here?\n<image>", "It gives shade, as ..."),
        ),
        (coco(33), ("<image>\nWhat challenges does this street pose?", "The street is narrow ...")),
    ],
    "vqav2_okvqa": [
        (
            coco(41),
            (
                f"<image>\nIs the door open?{SHORT}",
                "No",
                "How many chairs are there?",
                "4",
                "What is on the table?",
                "Bread",
            ),
        ),
        (
            coco(42),
            (
                f"<image>\nWhat colour is the bus?{SHORT}",
                "Red",
                "Is it parked?",
                "Yes",
                "Who drives?",
                "Woman",
                "Is it late?",
                "No",
            ),
        ),
        (coco(43), (f"<image>\nWhich country is this dish from?{SHORT}", "Peru")),
        (coco(44), (f"What is this machine used for?{SHORT}\n<image>", "Harvesting")),
    ],
    "aokvqa": [
        (
            ("22abcdefghijklmnopqrst", coco(51)[1]),
            (f"<image>\n{choices('What will he throw?')}{LETTER}", "B"),
        ),
        (
            coco(52),
            (
                f"<image>\n{choices('What is she about to eat with?')}{LETTER}",
                "A",
                choices("What stands behind her?"),
                "C",
            ),
        ),
        (coco(53), (f"{choices('What does the rope hold?')}{LETTER}\n<image>", "D")),
    ],
    "refcoco": [
        (coco(61), (f"<image>\n{DESCRIBE}[0.12, 0.3, 0.45, 0.98].", "Man on the left.")),
        (
            coco(62),
            (
                f"<image>\n{LOCATE}the smaller suitcase.",
                "[0.5, 0.41, 0.77, 0.9]",
                f"{DESCRIBE}[0.0, 0.2, 0.3, 0.61].",
                "Woman in green.",
            ),
        ),
        (
            coco(63),
            (
                f"<image>\n{LOCATE}zebra that drinks.",
                "[0.1, 0.1, 0.4, 0.8]",
                f"{LOCATE}tree.",
                "[0]",
            ),
        ),
    ],
    "vg": [
        (
            (2317, "vg/VG_100K/2317.jpg"),
            (f"<image>\n{DESCRIBE}[0.2, 0.2, 0.3, 0.4].", "Old clock."),
        ),
        (
            (2318, "vg/VG_100K_2/2318.jpg"),
            (f"<image>\n{LOCATE}roof.", "[0.0, 0.0, 1.0, 0.2]", f"{DESCRIBE}[0.5].", "A wheel."),
        ),
        ((2319, "vg/VG_100K_2/2319.jpg"), (f"<image>\n{LOCATE}a shoe.", "[0.3, 0.8, 0.4, 0.9]")),
    ],
    "gqa": [
        ((71, "gqa/images/71.jpg"), (f"<image>\nIs the lamp left of the bed?{SHORT}", "Yes")),
        (
            (72, "gqa/images/72.jpg"),
            (f"<image>\nWho wears the hat?{SHORT}", "Girl", "Is it straw?", "No"),
        ),
        ((73, "gqa/images/73.jpg"), (f"What is under the desk?{SHORT}\n<image>", "Basket")),
    ],
    "ocr_vqa": [
        (
            ("0140000001", "ocr_vqa/images/0140000001.jpg"),
            (
                f"<image>\nWho is the author of this book?{SHORT}",
                "Ann Author",
                "What is the genre of this book?",
                "Travel",
            ),
        ),
        (
            ("014000002X", "ocr_vqa/images/014000002X.jpg"),
            (f"<image>\nWhat is the title of this book?{SHORT}", "A Title"),
        ),
        (
            ("1400000037", "ocr_vqa/images/1400000037.jpg"),
            (f"Is this a comics book?{SHORT}\n<image>", "No"),
        ),
    ],
    "textcaps": [
        (
            ("0a1", "textvqa/train_images/0a1.jpg"),
            (f"<image>\n{CAPTION}\nReference OCR token: EXIT, 12", "A sign that says exit."),
        ),
        (("0a2", "textvqa/train_images/0a2.jpg"), (f"{CAPTION}\n<image>", "A bottle of ink.")),
        (
            ("0a3", "textvqa/train_images/0a3.jpg"),
            (f"<image>\n{CAPTION}\nReference OCR token: ", "A blank page."),
        ),
    ],
}
TEXT_ONLY = [
    {
        "id": "aBcD12_0",
        "model": "",
        "conversations": [("human", "Write a haiku."), ("gpt", "Frost")],
    },
    {"id": "aBcD12_3", "model": "", "conversations": [("human", "Sort 3, 1."), ("gpt", "1, 3")]},
    {"id": "eFgH34_0", "model": "", "conversations": [("human", "Hi"), ("gpt", "Hello")]},
]


def turns(texts: Conversation) -> list[dict[str, str]]:
    roles = ("human", "gpt")
    return [{"from": roles[place % 2], "value": text} for place, text in enumerate(texts)]


def records() -> list[dict[str, Any]]:
    """Every record above in LLaVA's form; A-OKVQA's a second time with other choices."""
    found = [
        {"id": sample_id, "image": image, "conversations": turns(texts)}
        for samples in SOURCES.values()
        for (sample_id, image), texts in samples
    ]
    for (sample_id, image), texts in SOURCES["aokvqa"]:
        other = tuple(text.replace("fork", "spoon") for text in texts)
        found.append({"id": sample_id, "image": image, "conversations": turns(other)})
    for record in TEXT_ONLY:
        said = [{"from": role, "value": text} for role, text in record["conversations"]]
        found.append({**record, "conversations": said})
    return found


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records and their images."""
    folder = tmp_path_factory.mktemp("mix")
    for number, record in enumerate(records()):
        if "image" in record:
            path = folder / record["image"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    (folder / "mix.json").write_text(json.dumps(records()))
    return folder / "mix.json"


def test_llava665k_rules_assign_the_task_of_each_source(mix: Path) -> None:
    told = {
        (entry.record["image"], str(entry.record["conversations"])): entry.task
        for entry in source(str(mix), task_rules=RULES).entries()
        if "image" in entry.record
    }
    for task, samples in SOURCES.items():
        assert len(samples) >= 3
        for (_, image), texts in samples:
            assert told[image, str(turns(texts))] == task


def test_llava665k_pool_has_ten_tasks_and_separate_text_only(mix: Path, tmp_path: Path) -> None:
    where = source(str(mix), task_rules=RULES)
    counts = build_pool(where, tmp_path)
    assert counts.text_only == len(TEXT_ONLY) and counts.problems == 0
    pool = load_pool(tmp_path, where.image_root)
    expected = {task: len(samples) for task, samples in SOURCES.items()}
    expected["aokvqa"] *= 2  # the same id and image with other choices is another sample
    assert dict(Counter(pool.task)) == expected and len(pool.tasks) == 10


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """A nested mapping by dotted keys."""
    if not isinstance(value, dict):
        return {key: value}
    parts = [flat(child, f"{key}.{name}".lstrip(".")) for name, child in value.items()]
    return {name: leaf for part in parts for name, leaf in part.items()}


DIFFERENT = {
    "llava15_13b": (
        "model.checkpoint",
        "model.components",
        "full_scores",
        "data.eval_batch_size",
    ),
    "llava15_qlora": (
        "model.quantization",
        "data.micro_batch_size",
        "data.eval_batch_size",
        "trainer.devices",
    ),
    "llava_llama3": ("model.checkpoint", "model.components", "data.template", "full_scores"),
    "vision_flan": (
        "data.annotations",
        "data.image_root",
        "data.task_rules",
        "data.task_key",
        "full_scores",
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_config_variants_differ_from_llava15_only_as_documented(name: str) -> None:
    mine = flat(yaml.safe_load((configs_folder() / f"{name}.yaml").read_text()))
    theirs = flat(LLAVA15)
    changed = {key for key in mine | theirs if mine.get(key) != theirs.get(key)}
    assert changed and all(key.startswith(DIFFERENT[name]) for key in changed)
