"""Questions about scenes, one maker a task, and the pool of records that is built from them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from presel_lightning.errors import UserError
from presel_lightning.quickstart.kinds import SIZES
from presel_lightning.quickstart.scenes import PLACES, Rng, Scene, Thing, draw_scene, render
from presel_lightning.run.files import replacing_folder

TEST_PER_TASK = 100
SECOND_TURN = 0.2
"""Share of the colour, shape and position records that ask about a second thing."""

THING_TASKS = ("colour", "shape", "position")
"""Tasks that ask about one thing of a scene in which no two look alike."""

Wordings = Mapping[str, tuple[str, ...]]

WORDINGS: Wordings = {
    "colour": (
        "What colour is the {kind}?",
        "Which colour has the {kind}?",
        "Name the colour of the {kind}.",
    ),
    "shape": (
        "What shape is the {colour} object?",
        "Which shape has the colour {colour}?",
        "Name the shape that is {colour}.",
    ),
    "position": (
        "Where is the {kind}?",
        "In which direction is the {colour} {kind}?",
        "Locate the {colour} {kind}.",
    ),
    "count": ("How many objects are there?", "Count the objects in the image."),
    "ocr": ("What number is written here?", "Read the digits.", "Which digits do you see?"),
    "background": (
        "What does the background look like?",
        "Which pattern does the background have?",
        "Describe the background in one word.",
    ),
    "caption": ("Describe the image.", "What does the image show?"),
}
_COUNT_OF = ("How many {kind}s are there?", "How many {colour} objects do you see?")
_LIST = "List the objects."
_FACTS = {
    "kind": ("{kind} {colour}", "{kind} {place}"),
    "colour": ("{colour} {kind}", "{colour} {place}"),
    "cell": ("{place} {colour}", "{place} {kind}"),
}
"""What can be told of a thing that alone has its kind, colour or cell."""
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")


class Example(NamedTuple):
    """A scene and a conversation about it."""

    scene: Scene
    turns: tuple[tuple[str, str], ...]


def caption(scene: Scene) -> str:
    """Tell everything that a scene shows, in reading order."""
    things = ", ".join(f"{_name(thing)} in the {PLACES[thing.cell]}" for thing in scene.things)
    return f"{things[0].upper()}{things[1:]}, on a {scene.background} background."


def facts(scene: Scene, rng: Rng) -> str:
    """Tell one fact about each thing as two tags, in any order, none of them ambiguous."""
    told = []
    for index in rng.permutation(len(scene.things)):
        thing = scene.things[index]
        options: tuple[str, ...] = ()
        for field, sentences in _FACTS.items():
            if sum(getattr(other, field) == getattr(thing, field) for other in scene.things) == 1:
                options += sentences
        told.append(_fill(_pick(rng, options), thing))
    return f"Tags: {', '.join(told)}."


def _fill(sentence: str, thing: Thing) -> str:
    return sentence.format(kind=thing.kind, colour=thing.colour, place=PLACES[thing.cell])


def _name(thing: Thing) -> str:
    return f"{'an' if thing.colour[0] == 'o' else 'a'} {thing.colour} {thing.kind}"


def _pick(rng: Rng, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _ask_about(task: str, thing: Thing, wordings: Wordings, rng: Rng) -> tuple[str, str]:
    """Ask for the colour, shape or position of a thing that shares none of them in its scene."""
    answers = {"colour": thing.colour, "shape": thing.kind, "position": PLACES[thing.cell]}
    return _fill(_pick(rng, wordings[task]), thing), answers[task]


def _about_things(task: str, wordings: Wordings) -> Callable[[Rng], Example]:
    """A maker of questions about single things of a scene in which no two look alike."""

    def make(rng: Rng) -> Example:
        scene = draw_scene(rng, shapes=int(rng.integers(2, 5)), distinct=True)
        n_turns = 2 if rng.random() < SECOND_TURN else 1
        things = [scene.things[index] for index in rng.permutation(len(scene.things))[:n_turns]]
        return Example(scene, tuple(_ask_about(task, thing, wordings, rng) for thing in things))

    return make


def _ask_count(rng: Rng) -> Example:
    scene = draw_scene(rng, shapes=int(rng.integers(1, 7)))
    if rng.random() < 0.7:
        return Example(scene, ((_pick(rng, WORDINGS["count"]), _NUMBERS[len(scene.things)]),))
    thing = scene.things[int(rng.integers(len(scene.things)))]
    wording = _pick(rng, _COUNT_OF)
    field = "kind" if "{kind}" in wording else "colour"
    count = sum(getattr(other, field) == getattr(thing, field) for other in scene.things)
    question = wording.format(kind=_plural_stem(thing.kind), colour=thing.colour)
    return Example(scene, ((question, _NUMBERS[count]),))


def _plural_stem(kind: str) -> str:
    return kind + "e" if kind.endswith("s") else kind


def _ask_ocr(rng: Rng) -> Example:
    scene = draw_scene(rng, shapes=int(rng.integers(2)), digits=int(rng.integers(1, 4)))
    number = "".join(thing.kind for thing in scene.things if thing.kind.isdigit())
    return Example(scene, ((_pick(rng, WORDINGS["ocr"]), number),))


def _ask_background(rng: Rng) -> Example:
    scene = draw_scene(rng, shapes=int(rng.integers(1, 4)))
    return Example(scene, ((_pick(rng, WORDINGS["background"]), scene.background),))


def _ask_caption(rng: Rng) -> Example:
    scene = draw_scene(rng, shapes=int(rng.integers(1, 4)))
    if rng.random() < 0.25:
        return Example(scene, ((_LIST, ", ".join(_name(thing) for thing in scene.things)),))
    return Example(scene, ((_pick(rng, WORDINGS["caption"]), caption(scene)),))


def makers(wordings: Wordings = WORDINGS) -> dict[str, Callable[[Rng], Example]]:
    """One maker of examples a task.

    Args:
        wordings: how things are asked for.
    """
    return {
        **{task: _about_things(task, wordings) for task in THING_TASKS},
        "count": _ask_count,
        "ocr": _ask_ocr,
        "background": _ask_background,
        "caption": _ask_caption,
    }


MAKERS = makers()
"""The makers of the pool."""

DRAWN = re.compile(rf"(?:^|.*/)(?:train|test)-(?:{'|'.join(MAKERS)})-\d{{4,}}\.png")
"""Path of an image that `generate` has painted."""


def is_drawn(images: Iterable[str]) -> bool:
    """Return whether all images have names that `generate` gives, whatever folder they are in."""
    return all(DRAWN.fullmatch(image) for image in images)


def generate(
    folder: Path,
    *,
    seed: int = 0,
    sizes: Mapping[str, int] = SIZES,
    test_per_task: int = TEST_PER_TASK,
    corrupt: float = 0.0,
    scenes: Mapping[str, int] | None = None,
) -> None:
    """Write a pool: `train.json`, a balanced `test.json` of other scenes, and `images/`.

    The same seed gives the same bytes, and the same test file for all pools of the same tasks. All
    of it appears at once, under a finished name.

    Args:
        folder: a new one.
        seed: of all draws.
        sizes: training records of each task.
        test_per_task: test records of each task; they are always clean and of distinct scenes.
        corrupt: share of the training records that are spoilt.
        scenes: tasks that show so few scenes over and over.

    Raises:
        UserError: If `folder` holds something already, or a task of `sizes` is unknown.
    """
    unknown = sorted(set(sizes) - set(MAKERS))
    if unknown:
        raise UserError(f"unknown quickstart tasks {unknown}; choose from {sorted(MAKERS)}")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name a new folder for the quickstart pool")
    with replacing_folder(folder, many=True) as temporary:
        (temporary / "images").mkdir()
        seen: set[Scene] = set()
        test = dict.fromkeys(sizes, test_per_task)
        rng = np.random.default_rng([seed, 1])
        _write(temporary, "test", _write_split(temporary, "test", test, seen, rng, {}))
        rng = np.random.default_rng([seed, 0])
        train = _write_split(temporary, "train", sizes, seen, rng, scenes or {})
        _spoil(temporary, train, corrupt, np.random.default_rng([seed, 2]))
        _write(temporary, "train", train)


def _write(folder: Path, split: str, records: list[dict[str, Any]]) -> None:
    text = json.dumps(records, indent=1, ensure_ascii=False) + "\n"
    (folder / f"{split}.json").write_text(text, encoding="utf-8")


def _write_split(
    folder: Path,
    split: str,
    counts: Mapping[str, int],
    seen: set[Scene],
    rng: Rng,
    scenes: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Paint the images of a split and return its records, shuffled.

    No scene comes twice, but for tasks that have a few `scenes` only.
    """
    records = []
    for task in sorted(counts):
        few = [_new_example(task, split, seen, rng) for _ in range(scenes.get(task, 0))]
        for number in range(counts[task]):
            example = few[number % len(few)] if few else _new_example(task, split, seen, rng)
            name = f"{split}-{task}-{number:04d}"
            Image.fromarray(render(example.scene, rng)).save(folder / "images" / f"{name}.png")
            records.append(_record(name, task, example))
    return [records[index] for index in rng.permutation(len(records))]


def _new_example(task: str, split: str, seen: set[Scene], rng: Rng) -> Example:
    """An example of a scene that nothing has shown yet; a test asks one question."""
    example = MAKERS[task](rng)
    while example.scene in seen or (split == "test" and len(example.turns) > 1):
        example = MAKERS[task](rng)
    seen.add(example.scene)
    return example


def _spoil(folder: Path, records: list[dict[str, Any]], share: float, rng: Rng) -> None:
    """Replace images by noise and answers by those of another record, in turn."""
    spoilt = rng.permutation(len(records))[: round(share * len(records))]
    for index in spoilt[0::2]:
        noise = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / records[index]["image"])
    answers = [records[index]["conversations"][1]["value"] for index in spoilt[1::2]]
    for index, answer in zip(spoilt[1::2], answers[1:] + answers[:1], strict=True):
        records[index]["conversations"][1]["value"] = answer


def _record(name: str, task: str, example: Example) -> dict[str, Any]:
    conversations = []
    for turn, (question, answer) in enumerate(example.turns):
        human = question if turn else f"<image>\n{question}"
        conversations += [{"from": "human", "value": human}, {"from": "gpt", "value": answer}]
    return {
        "id": name,
        "image": f"images/{name}.png",
        "task": task,
        "conversations": conversations,
    }
