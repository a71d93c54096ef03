"""Pools of made-up images and features for the tests of selectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from presel_lightning.data import Pool, build_pool, load_pool, source
from presel_lightning.signals import (
    AnswerValidity,
    ClipSimilarity,
    ColumnSignal,
    Features,
    Gradients,
    HeadGradients,
    HeldOutLoss,
    HiddenStates,
    LayerFeatures,
    PairedLoss,
    PairGradients,
    ReferenceHiddenStates,
    Signals,
    TextLoss,
    TokenLoss,
    VisualTokens,
)
from presel_lightning.signals.features import FeatureTable

Pair = tuple[Pool, Signals]


LOSSES = ("with_question", "without_question", "without_image")


class Case(NamedTuple):
    """A pool to test a selector on."""

    sizes: dict[str, int]
    reference: int = 9
    """Every n-th image by id belongs to the reference split; 0 for none."""
    copies: bool = False
    """Whether all images are alike."""
    near: bool = False
    """Whether every other image, by uid, is a near copy of the one before it."""


def make_pool(folder: Path, case: Case, seed: int | None = None) -> Pool:
    """A pool of small images; rows shuffled if there is a seed."""
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "x.png")
    turns = [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}]
    records = [
        {"id": f"{task}{i}", "image": "x.png", "task": task, "conversations": turns}
        for task, size in case.sizes.items()
        for i in range(size)
    ]
    if seed is not None:
        np.random.default_rng(seed).shuffle(records)
    (folder / "a.json").write_text(json.dumps(records))
    build_pool(source(str(folder / "a.json")), folder)
    pool = load_pool(folder, folder)
    chosen = sorted(pool.id)[:: case.reference] if case.reference else []
    return pool.with_reference(pool.uid[np.isin(pool.id, chosen)])


def make_signals(folder: Path, case: Case, pool: Pool) -> Signals:
    """Features by id (twins share theirs) and losses of each reference sample."""
    signals = Signals(folder)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(len(pool), 16)).astype(np.float32)
    by_id = dict(zip(sorted(pool.id), table, strict=True))
    features = np.stack([by_id[name] for name in pool.id])
    features[(pool.task == "twins") | case.copies] = 1.0
    if case.near:
        features[1::2] = features[: 2 * (len(pool) // 2) : 2] + 1e-3
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    rows = np.arange(len(pool))
    new = np.full(len(pool), -1)
    table_of = FeatureTable(pool.uid, pool.uid, pool.image_digest, rows)
    signals.of(Features).write(table_of, features, new, {})
    losses = reference_losses(pool)
    signals.of(PairedLoss).write(losses)
    signals.of(HeldOutLoss).write(losses, losses[::2], losses[1::2])
    write_columns(signals, pool)
    return signals


def write_columns(signals: Signals, pool: Pool, has: np.ndarray | None = None) -> None:
    """Signals of instructions, made up by id, for the samples that have one; by default all."""
    has = np.ones(len(pool), dtype=bool) if has is None else has
    places = {name: place for place, name in enumerate(sorted(pool.id))}
    order = np.array([places[name] for name in pool.id])[has]
    rng = np.random.default_rng(1)

    def numbers(*shape: int, low: float = 0.1) -> np.ndarray:
        """Between `low` and 2, float32; the same for an id in any order of the rows."""
        drawn: np.ndarray = rng.uniform(low, 2, (len(pool), *shape)).astype(np.float32)[order]
        return drawn

    def directions() -> np.ndarray:
        found = numbers(8, low=-2)
        unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit.astype(np.float16)

    spectra = {"entropy": numbers(), "concentration": numbers() / 2, "last": numbers(6, low=-2)}
    columns: dict[type[ColumnSignal], dict[str, np.ndarray]] = {
        TokenLoss: {
            **{f"loss_{kind}": numbers() for kind in LOSSES},
            "error_norm": numbers(),
            "margin": numbers(low=-1),
            "n_tokens": np.ceil(10 * numbers()).astype(np.int32),
            "text": numbers(5, low=-2).astype(np.float16),
        },
        HiddenStates: spectra,
        ReferenceHiddenStates: spectra,
        ClipSimilarity: {
            "similarity": numbers(),
            "image": directions(),
            "text": directions(),
        },
        LayerFeatures: {"features": directions(), "finite": np.ones(has.sum(), dtype=np.uint8)},
        VisualTokens: {"features": numbers(6, low=-2), "finite": np.ones(has.sum(), np.uint8)},
        AnswerValidity: {f"{side}_question": numbers() / 2 for side in ("with", "without")},
    }
    for kind, values in columns.items():
        signals.of(kind).write(pool, has, values, {})
    for kind in (Gradients, HeadGradients, PairGradients):
        gradients = {
            "direction": directions(),
            "length": numbers(),
            "norm": numbers(),
            "loss": numbers(),
        }
        signals.of(kind).write(pool, has, gradients, {"edges": [0, 3, 8]})
    if pool.reference.any():
        text = {"loss_without_image": numbers()[pool.reference[has]]}
        signals.of(TextLoss).write(pool, pool.reference & has, text, {})


def reference_losses(pool: Pool) -> pa.Table:
    """Losses of the reference split, another IRS for each task."""
    rows = np.flatnonzero(pool.reference)
    relevance = 0.3 + 0.1 * np.array([pool.tasks.index(task) for task in pool.task[rows]], float)
    return pa.table(
        {
            "uid": pa.array(pool.uid[rows].tolist(), pa.string()),
            "task": pa.array(pool.task[rows].tolist(), pa.string()),
            "loss_with_question": 2 * relevance,
            "loss_without_question": np.full(len(rows), 2.0),
            "n_tokens": np.full(len(rows), 4),
            "correct": relevance < 0.35,
            "irs": relevance,
        }
    )


def make_pair(folder: Path, case: Case) -> Pair:
    """A pool and its signals."""
    pool = make_pool(folder / "pool", case)
    return pool, make_signals(folder / "signals", case, pool)
