"""Answers of one task that belong to other samples: selectors of gradients keep fewer than a draw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from presel_lightning.cli.main import main
from presel_lightning.data import load_pool
from presel_lightning.quickstart.world import generate
from presel_lightning.selectors import DataInf, InfluenceSpace, Selector
from presel_lightning.signals import Signals
from tests.bench.shuffled import shuffle_answers
from tests.conftest import fit_arguments

SIZES = {"shape": 120, "colour": 60, "count": 60}
BUDGET = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, set[str]]:
    """Run folder, pool folder, and the ids of the samples with a wrong answer."""
    folder = tmp_path_factory.mktemp("shuffled")
    generate(folder / "whole", seed=3, sizes=SIZES, test_per_task=1)
    wrong = shuffle_answers(folder / "whole", folder / "pool", "shape", 0.3, seed=0)
    given = fit_arguments(folder / "pool", folder / "run", "--data.always_reference", "true")[1:]
    options = ["--data.reference", "60", "--data.budget", "120", "--trainer.max_epochs", "4"]
    options += ["--data.block_size", "32", "--gradient_width", "512", "--selector", "Random"]
    assert main(["prepare", *given, *options, "--signals", "clip_similarity", "gradients"]) == 0
    return folder / "run", folder / "pool", wrong


@pytest.mark.parametrize("selector", [DataInf(), InfluenceSpace(clusters=8)], ids=["DataInf", "InfluenceSpace"])  # fmt: skip
def test_selection_holds_fewer_shuffled_answers_than_a_draw(
    selector: Selector, run: tuple[Path, Path, set[str]]
) -> None:
    out, folder, ids = run
    pool = load_pool(out, folder)
    records = json.loads((out / "reference.json").read_text())
    pool = pool.with_reference([record["uid"] for record in records])
    wrong = np.isin(pool.id.astype(str), sorted(ids)) & ~pool.reference
    expected = BUDGET * wrong.sum() / (~pool.reference).sum()
    assert wrong.sum() > 15 and expected > 4
    chosen = selector.select(pool, Signals(out / "signals"), BUDGET, seed=0)
    kept = int(wrong[pool.rows(chosen.uids)].sum())
    assert kept < expected, (kept, expected)
