from __future__ import annotations

import csv
import json
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from presel_lightning.data import PoolSource, build_pool, load_pool, source
from presel_lightning.data.record_file import BATCH, texts_path
from presel_lightning.data.texts import Texts
from presel_lightning.records import Turn


def record_of(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ("human", "gpt")
    turns = [{"from": roles[i % 2], "value": text} for i, text in enumerate(texts)]
    return {"conversations": turns, **more}


def where(folder: Path, records: list[dict[str, Any]], **options: Any) -> PoolSource:
    path = folder / "train.json"
    path.write_text(json.dumps(records))
    return source(str(path), text_only=True, **options)


SAID = [
    record_of("Hi", "Hello there", id="1"),
    record_of("2 + 2?", "4", "Sure?", "Yes"),
    record_of("a", "b"),
]


def test_build_pool_stores_text_only_records_separately(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    shown = record_of("<image>\nWhat?", "A dog", image="a.png", task="vqa")
    faulty = [record_of("Hi", " ", id="empty"), record_of("Hi", id="half"), {"id": "nothing"}]
    counts = build_pool(where(tmp_path, [SAID[0], shown, *SAID[1:], *faulty]), tmp_path / "out")
    assert (counts.pool, counts.text_only, counts.problems) == (1, 3, 3)
    with (tmp_path / "out" / "problems.csv").open() as handle:
        listed = {row["id"]: row["problem"] for row in csv.DictReader(handle)}
    assert listed == {
        "empty": "empty_answer",
        "half": "turn_without_answer",
        "nothing": "no_image",
    }
    assert load_pool(tmp_path / "out", tmp_path).image.tolist() == ["a.png"]
    texts = Texts(tmp_path / "out")
    turns = [texts.turns(row) for row in range(len(texts))]
    assert (Turn("2 + 2?", "4"), Turn("Sure?", "Yes")) in turns and len(turns) == 3
    for row, each in enumerate(turns):
        assert texts.n_words[row] == sum(len(f"{t.question} {t.answer}".split()) for t in each)


def test_build_pool_lone_surrogate_is_listed_and_skipped(tmp_path: Path) -> None:
    """JSON can name one, no text file can hold it."""
    kept = where(tmp_path, [record_of("Hi", "Hello"), record_of("Hi", "\ud800")])
    for text_only in (False, True):
        counts = build_pool(replace(kept, text_only=text_only), tmp_path / str(text_only))
        assert counts.by_problem == {"not_unicode": 1} and counts.text_only == 1
    assert len(Texts(tmp_path / "True")) == 1


def test_texts_digest_depends_on_content_not_row_order(tmp_path: Path) -> None:
    found = []
    many = [record_of(f"question {n}", f"answer {n}") for n in range(BATCH + 3)]
    changed = [*many[:-1], record_of("question", "another")]
    for number, rows in enumerate((many, random.Random(0).sample(many, len(many)), changed)):
        build_pool(where(tmp_path, rows), tmp_path / str(number))
        found.append(Texts(tmp_path / str(number)))
    one, two, other = found
    assert one.digest() == two.digest() != other.digest()
    assert len(one) == BATCH + 3
    places = range(0, len(one), 97)
    assert [one.turns(place) for place in places] == [two.turns(place) for place in places]
    copy = pickle.loads(pickle.dumps(one))
    assert copy.turns(5) == one.turns(5) and np.array_equal(copy.n_words, one.n_words)


def test_texts_of_a_pool_without_text_only_are_empty(tmp_path: Path) -> None:
    build_pool(where(tmp_path, []), tmp_path / "out")
    assert len(Texts(tmp_path / "out")) == 0


def test_source_fingerprint_changes_with_text_only(tmp_path: Path) -> None:
    asked = where(tmp_path, SAID)
    path = str(asked.files[0][1])
    assert source(path).fingerprint() != asked.fingerprint()
    build_pool(source(path), tmp_path / "out")
    assert not texts_path(tmp_path / "out").exists()
