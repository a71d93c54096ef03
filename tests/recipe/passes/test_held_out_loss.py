"""Cross-fitting on the reference split: no sample is scored by a model tuned on it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from presel_lightning.cli.main import main
from presel_lightning.data import Pool, load_pool
from presel_lightning.loading.datasets import PairSet
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.recipe.passes.held_out_loss import halves_of
from presel_lightning.tasks import FineTune
from tests.conftest import fit_arguments

REFERENCE = 13
Rows = dict[str, dict[str, Any]]


def arguments(pool_folder: Path, out: Path, *more: str) -> list[str]:
    """Held-out losses over enough steps that the halves part the models."""
    rule = ["--selector", "PreSel", "--selector.init_args.weighting", "headroom"]
    steps = ["--data.reference", str(REFERENCE), "--data.batch_size", "2"]
    given = fit_arguments(pool_folder, out, *rule, *steps, "--trainer.max_epochs", "2", *more)
    return ["select", *given[1:]]


@pytest.fixture(scope="module")
def out(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held_out") / "run"
    assert main(arguments(pool_folder, folder)) == 0
    return folder


@pytest.fixture
def pool(out: Path, pool_folder: Path) -> Pool:
    return load_pool(out, pool_folder)


@pytest.fixture
def halves(out: Path, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    return halves_of(pool, reference(out), seed=0)


def reference(out: Path) -> np.ndarray:
    records = json.loads((out / "reference.json").read_text())
    return np.array([record["uid"] for record in records], dtype=object)


def stored(out: Path) -> Rows:
    table = pq.read_table(out / "signals" / "held_out_loss.parquet")
    return {row["uid"]: row for row in table.to_pylist()}


def stages(out: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((out / "run.json").read_text())["stages"]
    return found


def predicted(checkpoint: str | Path, pool: Pool, uids: np.ndarray) -> Rows:
    """Losses and correctness of each sample alone, without Trainer, blocks or padding."""
    module = FineTune(checkpoint=str(checkpoint), tune="none", dtype="float32")
    module.configure_model()
    module.eval()
    pairs = PairSet(pool, pool.rows(uids), encoder_of("vicuna_bare", module.processor, 2048))
    found = {}
    with torch.inference_mode():
        for number, uid in enumerate(uids):
            losses = module.predict_step(pairs.collate([pairs[number, 1.0]]), number)
            found[uid] = {name: value.item() for name, value in losses.items()}
    return found


def test_held_out_halves_split_every_reference_task(
    out: Path, pool: Pool, halves: tuple[np.ndarray, np.ndarray]
) -> None:
    one, other = map(set, halves)
    assert not one & other and one | other == set(reference(out)) == set(stored(out))
    assert len(reference(out)) == REFERENCE and abs(len(one) - len(other)) == 1
    counts = [Counter(pool.task[pool.rows(half)]) for half in halves]
    assert all(abs(counts[0][task] - counts[1][task]) <= 1 for task in pool.tasks)
    assert [stages(out)[f"held_out_{h}"]["samples"] for h in "ab"] == [len(one), len(other)]


def test_held_out_half_is_scored_by_the_other_halfs_model(
    out: Path, pool: Pool, halves: tuple[np.ndarray, np.ndarray]
) -> None:
    rows = stored(out)
    for name, (own, foreign) in zip("ab", (halves, halves[::-1]), strict=True):
        model = out / "models" / f"held_out_{name}"
        for uid, losses in predicted(model, pool, foreign).items():
            assert rows[uid]["loss"] == pytest.approx(losses["loss_with_question"], rel=1e-4)
            without = losses["loss_without_question"]
            assert rows[uid]["loss_without_question"] == pytest.approx(without, rel=1e-4)
            assert rows[uid]["n_tokens"] == losses["n_tokens"]
            assert rows[uid]["correct"] == losses["correct"]
        # it knows what it was tuned on better than the model that has not seen it
        seen = predicted(model, pool, own)
        known = np.mean([losses["loss_with_question"] for losses in seen.values()])
        assert known < np.mean([rows[uid]["loss"] for uid in own])


def test_held_out_start_loss_is_that_of_the_base_model(out: Path, pool: Pool) -> None:
    rows = stored(out)
    for uid, losses in predicted("quickstart", pool, reference(out)).items():
        assert rows[uid]["start_loss"] == pytest.approx(losses["loss_with_question"], rel=1e-4)
        assert rows[uid]["loss"] != rows[uid]["start_loss"]


def test_held_out_losses_are_recomputed_in_another_dtype(
    out: Path, pool_folder: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(out, tmp_path / "run")
    before = stages(out)
    assert main(arguments(pool_folder, out)) == 0
    assert stages(out) == before
    half = ["--stages.losses.model", "{dtype: bfloat16}"]
    assert main(arguments(pool_folder, out, *half)) == 0
    after = stages(out)
    assert after["held_out"]["fingerprint"] != before["held_out"]["fingerprint"]
    assert after["held_out_a"] == before["held_out_a"]
