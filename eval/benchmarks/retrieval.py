"""Retrieval of texts by images, and of images by texts: Recall@K in percent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from presel_lightning.eval.benchmarks.base import Score

RANKS = (1, 5, 10)
"""K of Recall@K."""
WAYS = ("image_to_text", "text_to_image")
NAMES = tuple(f"{way}_r{k}" for way in WAYS for k in RANKS)
"""Names of the benchmarks."""
BLOCK = 256
"""Queries whose similarities are held at a time."""


def retrieval_scores(
    image: Tensor,
    text: Tensor,
    picture: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str | None] = (),
) -> dict[str, Score]:
    r"""Compute Recall@1, 5 and 10 of both ways over the pairs of a test set.

    Candidates are all texts, or all pictures. A picture may have several texts: any of them is right.
    A query has the credit 1 where fewer than K wrong candidates are as similar to it as its best right
    one, else 0; so a tie counts against the model.

    Args:
        image: (N, D) vectors of unit length, equal for equal pictures.
        text: (N, D) vectors of unit length.
        picture: (N,) which picture each pair shows, any values.
        names: (N,) name of each pair.
        groups: (N,) group of each pair, None where it has none; empty where no pair has one.

    Returns:
        Scores by the name of the benchmark; scores of single groups where there are several.

    Source: Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions",
    CVPR 2015, for the protocol with several texts a picture.
    """
    _, first, inverse = np.unique(picture, return_index=True, return_inverse=True)
    shown, place = torch.from_numpy(first), torch.from_numpy(inverse.reshape(-1))
    each = torch.arange(len(first))
    ranks = {
        "image_to_text": ranks_of(image[shown], text, each, place),
        "text_to_image": ranks_of(text, image[shown], place, each),
    }
    rows = {"image_to_text": shown, "text_to_image": torch.arange(len(text))}
    found = {}
    for way in WAYS:
        own = rows[way].tolist()
        labels = [groups[row] for row in own] if len(groups) else []
        units = [str(int(place[row])) for row in own]
        ids = [names[row] for row in own]
        for k in RANKS:
            hits = (ranks[way] < k).double().tolist()
            found[f"{way}_r{k}"] = score_of(hits, ids, units, labels)
    return found


class Retrieved(NamedTuple):
    """What was retrieved first by each query of one way, as rows of the pairs, (Q,) each."""

    query: np.ndarray
    first: np.ndarray


def retrieved_first(image: Tensor, text: Tensor, picture: np.ndarray) -> dict[str, Retrieved]:
    """Return the most similar candidate of each query, by way, in the order of `retrieval_scores`.

    Args:
        image: (N, D) vectors of unit length, equal for equal pictures.
        text: (N, D) vectors of unit length.
        picture: (N,) which picture each pair shows, any values.
    """
    _, shown = np.unique(picture, return_index=True)
    every = np.arange(len(picture))
    return {
        "image_to_text": Retrieved(shown, nearest(image[torch.from_numpy(shown)], text)),
        "text_to_image": Retrieved(every, shown[nearest(text, image[torch.from_numpy(shown)])]),
    }


def nearest(query: Tensor, candidate: Tensor) -> np.ndarray:
    """Return the row of the most similar candidate of each query, (Q,), block by block."""
    blocks = query.split(BLOCK)
    rows = [(b.float() @ candidate.float().T).argmax(dim=1) for b in blocks]
    found: np.ndarray = torch.cat(rows).numpy()
    return found


def ranks_of(query: Tensor, candidate: Tensor, wanted: Tensor, shown: Tensor) -> Tensor:
    """Count the wrong candidates that are as similar to each query as its best right one, (Q,).

    Args:
        query: (Q, D) vectors of unit length.
        candidate: (C, D) vectors of unit length.
        wanted: (Q,) picture of each query.
        shown: (C,) picture of each candidate; every query has one at least.
    """
    ranks = []
    for start in range(0, len(query), BLOCK):
        block = slice(start, start + BLOCK)
        similarity = query[block].float() @ candidate.float().T  # (b, C)
        right = wanted[block, None] == shown  # (b, C)
        best = similarity.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        ranks.append(((similarity >= best) & ~right).sum(dim=1))
    return torch.cat([torch.empty(0, dtype=torch.long), *ranks])


def score_of(
    hits: list[float], ids: list[str], units: list[str], groups: Sequence[str | None]
) -> Score:
    """Build the score of credits (Q,), with that of each group where there are several."""
    known = sorted({group for group in groups if group is not None})
    tasks = {
        group: percent([hit for hit, own in zip(hits, groups, strict=True) if own == group])
        for group in (known if len(known) > 1 else ())
    }
    return Score(percent(hits), tasks, len(hits), hits, item_units=units, item_ids=ids)


def percent(hits: Sequence[float]) -> float:
    """Average credits in percent."""
    return 100 * sum(hits) / len(hits)


def gap_of(groups: dict[str, float]) -> dict[str, float]:
    """Return the largest score of a group minus the smallest, where there are several groups."""
    return {"gap": round(max(groups.values()) - min(groups.values()), 4)} if groups else {}
