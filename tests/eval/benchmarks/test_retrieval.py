"""Recall@K both ways against a literal loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from presel_lightning.eval.benchmarks.retrieval import (
    NAMES,
    RANKS,
    gap_of,
    retrieval_scores,
    retrieved_first,
)

PICTURES = ["b", "a", "c", "a", "d", "b", "a", "e", "f", "g", "h", "i", "k"]


def case(seed: int, pictures: list[str]) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(seed)
    _, place = np.unique(pictures, return_inverse=True)
    image = normalize(torch.randn(len(pictures), 3, generator=draw), dim=1)[torch.from_numpy(place)]
    text = normalize(torch.randn(len(pictures), 3, generator=draw) / 2 + image, dim=1)
    names = [f"pair {row}" for row in range(len(pictures))]
    return {"image": image, "text": text, "picture": np.array(pictures), "names": names}


def literal(case: dict[str, Any], k: int) -> tuple[list[float], list[float]]:
    """Credits of images (in the order of their names) and of texts: by sorting the candidates."""
    pictures, similar = case["picture"].tolist(), (case["image"] @ case["text"].T).tolist()
    first = {name: pictures.index(name) for name in sorted(set(pictures))}
    by_image, by_text = [], []
    for name, row in first.items():
        order = sorted(range(len(pictures)), key=lambda text: -similar[row][text])
        by_image.append(float(any(pictures[text] == name for text in order[:k])))
    for text, name in enumerate(pictures):
        order = sorted(first, key=lambda other: -similar[first[other]][text])
        by_text.append(float(name in order[:k]))
    return by_image, by_text


@given(seed=st.integers(0, 1000), n=st.integers(3, len(PICTURES)))
def test_recall_is_that_of_a_literal_loop(seed: int, n: int) -> None:
    """A picture has up to three texts, any of which is right."""
    given = case(seed, PICTURES[:n])
    found = retrieval_scores(**given)
    assert tuple(found) == NAMES
    for k in RANKS:
        by_image, by_text = literal(given, k)
        assert found[f"image_to_text_r{k}"].items == by_image
        assert found[f"text_to_image_r{k}"].items == by_text
        assert found[f"text_to_image_r{k}"].score == pytest.approx(100 * np.mean(by_text))
        assert found[f"image_to_text_r{k}"].n == len(set(PICTURES[:n]))


@given(seed=st.integers(0, 1000))
def test_what_is_retrieved_first_is_that_of_a_literal_loop(seed: int) -> None:
    given = case(seed, PICTURES)
    del given["names"]
    similar = (given["image"] @ given["text"].T).tolist()
    shown = [PICTURES.index(name) for name in sorted(set(PICTURES))]
    found = retrieved_first(**given)
    by_image = [max(range(len(PICTURES)), key=similar[row].__getitem__) for row in shown]
    assert found["image_to_text"].query.tolist() == shown
    assert found["image_to_text"].first.tolist() == by_image
    by_text = [max(shown, key=lambda row: similar[row][text]) for text in range(len(PICTURES))]
    assert found["text_to_image"].query.tolist() == list(range(len(PICTURES)))
    assert found["text_to_image"].first.tolist() == by_text


def test_texts_of_one_picture_are_resampled_together() -> None:
    found = retrieval_scores(**case(0, PICTURES))["text_to_image_r1"]
    units = dict(zip(PICTURES, found.item_units or [], strict=True))
    assert found.item_units == [units[name] for name in PICTURES]
    assert len(set(units.values())) == len(set(PICTURES)) and found.item_ids is not None


def test_tie_counts_against_the_model() -> None:
    """As where all vectors are alike, and where every text is the same."""
    alike = torch.ones(12, 1)
    names, pictures = [str(n) for n in range(12)], np.arange(12)
    found = retrieval_scores(alike, alike, pictures, names)
    assert {score.score for score in found.values()} == {0.0}


def test_groups_have_scores_of_their_own_and_a_gap_where_there_are_several() -> None:
    given = case(3, PICTURES)
    groups = ["x", "y", None, "y", "x", "x", "y", "x", None, "y", "y", "x", "x"]
    found = retrieval_scores(**given, groups=groups)["text_to_image_r1"]
    _, by_text = literal(given, 1)
    for group in ("x", "y"):
        own = [credit for credit, name in zip(by_text, groups, strict=True) if name == group]
        assert found.tasks[group] == pytest.approx(100 * np.mean(own))
    assert gap_of(found.tasks)["gap"] == pytest.approx(
        abs(found.tasks["x"] - found.tasks["y"]), abs=1e-3
    )
    assert found.score == retrieval_scores(**given)["text_to_image_r1"].score
    for nothing in ([None] * len(PICTURES), ["x"] * len(PICTURES), []):
        alone = retrieval_scores(**given, groups=nothing)["text_to_image_r1"]
        assert alone.tasks == {} and gap_of(alone.tasks) == {}
