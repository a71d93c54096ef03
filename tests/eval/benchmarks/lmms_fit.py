"""Fit the quickstart model for two steps and score it with lmms-eval on the way and at the end.

python tests/eval/lmms_fit.py POOL TASKS OUT DEVICES
"""

from __future__ import annotations

import json
import os
import pickle
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger

from presel_lightning.callbacks import Benchmark
from presel_lightning.data import build_pool, load_pool
from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile
from presel_lightning.eval.benchmarks.base import BenchmarkTask
from presel_lightning.eval.benchmarks.lmms import LMMSEval
from presel_lightning.eval.benchmarks.model_benchmark import environment
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.models import LoRA
from presel_lightning.tasks import FineTune

BATCH = 5
"""Divides neither the items nor their blocks by two."""


def state(module: FineTune) -> list[Any]:
    """What scoring must leave alone: random numbers to come, modes, environment."""
    return [
        random.getstate(),
        pickle.dumps(np.random.get_state()),
        torch.get_rng_state().tolist(),
        [part.training for part in module.modules()],
        dict(os.environ),
        torch.distributed.distributed_c10d.default_pg_timeout,
    ]


class Watched(Benchmark):
    """Sees that scoring leaves all else as it was."""

    def score(
        self, trainer: Trainer, module: FineTune, benchmarks: Sequence[BenchmarkTask]
    ) -> dict[str, dict[str, Any]]:
        before = state(module)
        found = super().score(trainer, module, benchmarks)
        assert state(module) == before
        return found


def benchmarks(pool: Path, tasks: Path) -> list[BenchmarkTask]:
    """Both kinds of task, a broken one, and our own scorer on the same items."""
    folder = str(tasks)
    return [
        LMMSEval(["words"], folder, batch_size=BATCH),
        LMMSEval(["choices"], folder, batch_size=BATCH),
        LMMSEval(["broken", "words"], folder, batch_size=BATCH),
        LMMSEval(["torn"], folder, batch_size=BATCH),
        AnnotationFile(str(tasks / "words.json"), str(pool), name="ours"),
    ]


def fit(pool: Path, out: Path, devices: int, *callbacks: Callback) -> FineTune:
    """Two steps of four samples."""
    seed_everything(0, verbose=False)
    data = SelectionDataModule(
        str(pool / "train.json"), template="vicuna_bare", batch_size=4, num_workers=0
    )
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        build_pool(data.source(out), out)
    data.pool = load_pool(out, pool)
    module = FineTune("quickstart", lora=LoRA(r=4, alpha=8, dropout=0.0), dtype="float32", lr=1e-2)
    data.train_on(data.pool.uid[:8], module.processor, seed=0)
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=1,
        callbacks=list(callbacks),
        logger=CSVLogger(out, name="log", version=""),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    return module


def main(pool: Path, tasks: Path, out: Path, devices: int) -> None:
    """Write `scores.json` into OUT."""
    often = Watched(benchmarks(pool, tasks)[:1], "vicuna_bare", every_n_steps=1)
    kept = out / "predictions.parquet"
    last = Watched(benchmarks(pool, tasks), "vicuna_bare", out / "scores.json", predictions=kept)
    with environment():
        module = fit(pool, out, devices, often, last)
    if module.global_rank == 0:
        total = sum(float(p.detach().double().sum()) for p in module.parameters())
        (out / "weights.json").write_text(json.dumps(total))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
