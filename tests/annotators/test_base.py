from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from presel_lightning import annotators
from presel_lightning.annotators import Annotator, FromFile, OpenAICompatible, requests_for
from presel_lightning.annotators.templates import TEMPLATES
from presel_lightning.data import Pool, build_pool, load_pool, source

ARGUMENTS = {
    "FiftyOne": ["--annotator.turns", "2"],
    "FromFile": ["--annotator.init_args.path", "answers.json"],
    "FromPool": ["--annotator.annotations", "[a.json, b.json]"],
    "LabelStudio": [],
    "OpenAICompatible": [
        "--annotator.base_url",
        "http://localhost:8000/v1",
        "--annotator.model",
        "tiny",
        "--annotator.templates",
        "{dogs: Which dog is it?}",
    ],
}


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """A folder of folders of images, without any instruction."""
    for name in ("dogs/a.png", "dogs/b.png", "ocr/a.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (len(name), 9, 9)).save(path)
    where = source(str(tmp_path / "photos"))
    build_pool(where, tmp_path / "run")
    return load_pool(tmp_path / "run", where.image_root)


def test_every_annotator_has_test_arguments() -> None:
    found = [getattr(annotators, name) for name in annotators.__all__]
    classes = {c for c in found if isinstance(c, type) and issubclass(c, Annotator)}
    assert {c.__name__ for c in classes - {Annotator}} == set(ARGUMENTS)


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_annotator_given_by_name_is_built_by_the_parser(name: str) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(Annotator, "annotator")
    config = parser.parse_args(["--annotator", name, *ARGUMENTS[name]])
    assert type(parser.instantiate(config).annotator).__name__ == name


def test_requests_hold_path_task_prompt_and_reason(pool: Pool) -> None:
    annotator = OpenAICompatible("http://host/v1", "tiny", templates={"dogs": "Which dog?"})
    why = {uid: f"cluster {number}" for number, uid in enumerate(pool.uid)}
    requests = annotator.requests(pool, reversed(pool.uid), why)
    assert [request.uid for request in requests] == list(pool.uid)
    by_image = {request.image: request for request in requests}
    assert by_image["dogs/a.png"].prompt == "Which dog?"
    assert by_image["ocr/a.png"].prompt == TEMPLATES["ocr"]
    assert all(request.path.is_file() and request.why == why[request.uid] for request in requests)
    assert json.loads(json.dumps(by_image["ocr/a.png"].record()))["task"] == "ocr"


def test_from_file_on_a_pool_matches_answers_by_image(pool: Pool, tmp_path: Path) -> None:
    requests = requests_for(pool, pool.uid[:2], "selection")
    (tmp_path / "a.csv").write_text(
        "image,question,answer\ndogs/a.png,What?,A.\ndogs/b.png,What?,B.\nocr/a.png,What?,C.\n"
    )
    answers = FromFile(str(tmp_path / "a.csv")).annotate(requests, tmp_path / "out", pool)
    assert set(answers.conversations) == set(pool.uid[:2]) and not answers.problems
    assert not answers.missing
