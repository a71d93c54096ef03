"""What scores of influence find, and what the gradients behind them cost, in one run.

    python tests/bench/bench_influence.py [--out bench.json] [--seeds 0 1 2 3 4]

Shuffled answers: 30 % of the answers of one task of the quickstart's pool are those of other samples
of the task; of each selection of 15 %, how many shuffled ones it has beside a random draw.
Cost: CPU-seconds a sample of the gradient pass beside those of a training step, and how far memory
rises with the number of samples. One thread.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t

from presel_lightning import quickstart, selectors
from presel_lightning.cli.main import main
from presel_lightning.console import quiet
from presel_lightning.data import load_pool
from presel_lightning.data.pool import Pool
from presel_lightning.loading.datasets import TrainSet, WholeSet
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.models.llava import LoRA
from presel_lightning.selectors import Selector
from presel_lightning.signals import Signals
from presel_lightning.tasks import FineTune
from presel_lightning.tasks.gradients import SampleGradients
from tests.bench.common import Row, keep, measured, timed
from tests.bench.shuffled import shuffle_answers

TASK, SHARE, BUDGET = "shape", 0.3, 0.15
SIGNALS = ["clip_similarity", "gradients", "head_gradients"]
COMPARED: dict[str, dict[str, Any]] = {
    "InfluenceSpace": {},
    "InfluenceSpace, allocation: spread": {"allocation": "spread"},
    "InfluenceSpace, normalize: false": {"normalize": False},
    "InfluenceSpace, as published": {
        "normalize": False,
        "inside": "random",
        "allocation": "spread",
    },
    "DataInf": {},
    "DataInf, identity": {"estimator": "identity"},
    "DataInf, exact-sketch": {"estimator": "exact-sketch"},
    "Less": {},
    "Icons": {},
    "Tive": {},
    "ForValue": {},
    "ClipScore": {},
    "Random": {},
}
BLOCKS = (80, 625)
"""Blocks of 16 that memory is measured over."""
STEP = 1.5
"""The cost of a sample's gradients may be this many times that of a sample in a training step."""


def prepare(folder: Path, out: Path, seed: int) -> None:
    """Tune the reference model of the quickstart, and make the signals."""
    given = ["--config", "quickstart.yaml", "--data.annotations", str(folder / "train.json")]
    given += ["--selector", "Random", "--data.always_reference", "true"]
    given += ["--seed_everything", str(seed), "--out", str(out), "--signals", *SIGNALS]
    assert main(["prepare", *given]) == 0


def reference_of(pool: Pool, out: Path) -> Pool:
    """The pool with the reference split of a run."""
    records = json.loads((out / "reference.json").read_text())
    return pool.with_reference([record["uid"] for record in records])


def shuffled_kept(pool_folder: Path, work: Path, seed: int) -> dict[str, list[int]]:
    """Shuffled samples, and all of the task, in the selection of each selector and in the `pool`."""
    changed = shuffle_answers(pool_folder, work / "pool", TASK, SHARE, seed)
    out = work / "run"
    prepare(work / "pool", out, seed)
    pool = reference_of(load_pool(out, work / "pool"), out)
    budget = round(BUDGET * len(pool)) - int(pool.reference.sum())
    wrong = np.isin(pool.id.astype(str), sorted(changed)) & ~pool.reference
    own = (pool.task == TASK) & ~pool.reference
    found = {
        "pool": [int(wrong.sum()), int(own.sum())],
        "budget": [budget, int((~pool.reference).sum())],
    }
    for name, options in COMPARED.items():
        kind = getattr(selectors, name.split(",")[0])
        selector: Selector = kind(**options)
        rows = pool.rows(selector.select(pool, Signals(out / "signals"), budget, seed=seed).uids)
        found[name] = [int(wrong[rows].sum()), int(own[rows].sum())]
    return found


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval (Student's t)."""
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return round(float(np.mean(values)), 1), round(float(half), 1)


def shuffled_row(pool_folder: Path, work: Path, seeds: list[int]) -> Row:
    """Count shuffled samples over seeds: mean, half of its interval, and the samples of the task."""
    found = []
    for seed in seeds:
        found.append(shuffled_kept(pool_folder, work / str(seed), seed))
        print(found[-1], flush=True)

    def counts(name: str) -> list[float]:
        wrong, own = ([float(each[name][place]) for each in found] for place in (0, 1))
        return [*interval(wrong), interval(own)[0]]

    return {
        "what": f"shuffled answers in {BUDGET:.0%}",
        "data": f"quickstart, {SHARE:.0%} of task {TASK}, seeds {seeds[0]} to {seeds[-1]}",
        **{name: counts(name) for name in ["pool", *COMPARED]},
    }


def cost_row(pool_folder: Path, work: Path) -> Row:
    """Cost a sample of the gradients beside a training step; memory at twice the samples."""
    out = work / "run"
    prepare(pool_folder, out, 0)
    pool = load_pool(out, pool_folder)
    batch = 16
    step, each = training_step(pool, batch), gradient_blocks(pool, out / "models/reference", batch)
    step(1), each(1)  # warm
    steps, blocks = timed(lambda: step(12))[1], timed(lambda: each(12))[1]
    rise = [measured(partial(each, n))[2] for n in BLOCKS]
    return {
        "what": "gradients of each sample",
        "data": f"quickstart, blocks of {batch}",
        "times_a_training_step": round(blocks / steps, 2),
        "samples": [batch * n for n in BLOCKS],
        "memory_rise_mb": [round(each, 1) for each in rise],
    }


def training_step(pool: Pool, batch: int) -> Callable[[int], None]:
    """n steps of the fit: forward, backward, optimizer."""
    module = FineTune("quickstart", lora=LoRA(r=64, alpha=128, dropout=0.0), dtype="float32")
    module.configure_model()
    rows = np.flatnonzero(pool.has_instruction)
    given = TrainSet(pool, rows, encoder_of("vicuna_bare", module.processor, 2048))
    optimizer = torch.optim.AdamW(module.parameter_groups())

    def run(n: int) -> None:
        for number in range(n):
            places = (np.arange(batch) + number * batch) % len(rows)
            sums, counts = module.answer_losses(given.collate([given[int(p), 1.0] for p in places]))
            (sums.sum() / counts.sum()).backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def gradient_blocks(pool: Pool, model: Path, batch: int) -> Callable[[int], None]:
    """n blocks of the gradient pass."""
    tuned = FineTune(str(model), tune="none", dtype="float32")
    reader = SampleGradients(tuned, 4096, 0)
    reader.configure_model()
    reader.eval()
    rows = np.flatnonzero(pool.has_instruction)
    given = WholeSet(pool, rows, encoder_of("vicuna_bare", tuned.processor, 2048))

    def run(n: int) -> None:
        for number in range(n):
            places = (np.arange(batch) + number * batch) % len(rows)
            reader.predict_step(given.collate([given[int(p), 1.0] for p in places]), number)

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--work", type=Path, help="folder that the runs are kept in")
    parser.add_argument("--only", choices=["cost", "shuffled"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    pool_folder = quickstart.pool()
    if given.only != "shuffled":
        with tempfile.TemporaryDirectory() as work:
            row = cost_row(pool_folder, Path(work))
            keep(given.out, row, times_a_training_step=f"<= {STEP}")
    if given.only != "cost":
        with tempfile.TemporaryDirectory() as work:
            keep(given.out, shuffled_row(pool_folder, given.work or Path(work), given.seeds))
