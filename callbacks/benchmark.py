"""Score benchmarks during or after a fit, or with a saved model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa
from lightning import Callback, LightningModule, Trainer
from rich.markup import escape

import presel_lightning.eval.benchmarks.lmms  # noqa: F401 - a config may name its class
from presel_lightning.console import console
from presel_lightning.data.images import MAX_PIXELS, open_rgb
from presel_lightning.data.pixels import Pixels
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.base import BenchmarkTask, Item, Score
from presel_lightning.eval.benchmarks.batch_size import BatchSize
from presel_lightning.eval.benchmarks.model_benchmark import (
    LiveModel,
    ModelBenchmark,
    PartialScore,
    SharedFailure,
    as_it_was,
)
from presel_lightning.eval.benchmarks.predictions import (
    answers_table,
    predictions_table,
    read_predictions,
    write_predictions,
)
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.loading.templates import AUTO
from presel_lightning.loading.tokens import UNCUT
from presel_lightning.models.parallel import is_sharded
from presel_lightning.run.files import read_json, write_json
from presel_lightning.run.interruption import temporary_folder
from presel_lightning.run.ranges import Count
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.tasks.finetune import FineTune


class Benchmark(Callback):
    """Answer every item of each benchmark by greedy decoding, and score the answers.

    Items are distributed over the processes, and all answers are gathered before scoring.

    Args:
        benchmarks: benchmarks to score.
        template: conversation template of the prompts, the one that the model was tuned with.
        path: output file of the scores (JSON); None writes none.
        key: fingerprint of model and benchmarks, stored in the file; see `done`.
        batch_size: batch size on each device; halved on out-of-memory errors.
        every_n_steps: also score every so many steps of a fit, and log the scores.
        pixels: conversion of images, that of the model's training (`data.pixels`).
        predictions: output file of the answers (Parquet); None writes none.
    """

    def __init__(
        self,
        benchmarks: list[BenchmarkTask],
        template: str = AUTO,
        path: Path | None = None,
        key: str = "",
        batch_size: Count = 64,
        every_n_steps: Count | None = None,
        pixels: Pixels = "as_shown",
        predictions: Path | None = None,
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise UserError(f"Benchmark.every_n_steps is {every_n_steps}; give 1 or more, or null")
        if batch_size < 1:
            raise UserError(f"Benchmark.batch_size is {batch_size}; give 1 or more")
        self.benchmarks = benchmarks
        self.template = template
        self.path = path
        self.key = key
        self.batch_size = batch_size
        self.every_n_steps = every_n_steps
        self.pixels = pixels
        self.predictions = predictions
        self._scored_at = 0
        self.scores: dict[str, dict[str, Any]] = {}
        self.answered: dict[str, pa.Table] = {}

    def done(self) -> bool:
        """Return whether the file holds the scores of this model on these benchmarks.

        A failed benchmark counts as missing, one that cannot be scored here does not.
        """
        return self._found() is not None and len(self.kept()) == len(self.benchmarks)

    def kept(self) -> dict[str, dict[str, Any]]:
        """Return the file's entries of the benchmarks that need not be scored again."""
        found = self._found() or {}
        return {
            benchmark.name: part
            for benchmark in self.benchmarks
            if (part := found.get(benchmark.name))
            and (part["score"] is not None or part.get("reasons") == benchmark.skipped())
        }

    def _found(self) -> dict[str, dict[str, Any]] | None:
        """Return the file's entries of this model and these benchmarks."""
        if self.path is None or not self.path.exists():
            return None
        content: dict[str, Any] = read_json(self.path)
        return content["benchmarks"] if content["key"] == self.key else None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the tuned model, unless its weights are sharded over devices.

        The recipe scores a sharded model after it has been saved and loaded whole.
        """
        module = tuned(pl_module)
        if is_sharded(module.model):
            return
        if not self._scored_at == trainer.global_step > 0:  # unless scored after the last step
            self.scores = self.score(trainer, module, self.benchmarks)
        self.write()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's own signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Score the model every `every_n_steps` steps of a fit."""
        step, module = trainer.global_step, tuned(pl_module)
        due = self.every_n_steps is not None and step > 0 and step % self.every_n_steps == 0
        if not due or step == self._scored_at or is_sharded(module.model):
            return
        self._scored_at = step
        self.scores = self.score(trainer, module, self.benchmarks)
        scores = {f"benchmark/{name}": found["score"] for name, found in self.scores.items()}
        known = {name: score for name, score in scores.items() if score is not None}
        for logger in trainer.loggers:
            logger.log_metrics(known, step)

    def run(self, trainer: Trainer, module: FineTune) -> dict[str, dict[str, Any]]:
        """Score the benchmarks that the file lacks, with a model on the Trainer's device."""
        kept = broadcast(self.kept)
        if self.predictions is not None and rank_zero():
            before = read_predictions(self.predictions, self.key)
            self.answered = {name: table for name, table in before.items() if name in kept}
        new = [benchmark for benchmark in self.benchmarks if benchmark.name not in kept]
        found = kept | self.score(trainer, module, new)
        self.scores = {benchmark.name: found[benchmark.name] for benchmark in self.benchmarks}
        self.write()
        return self.scores

    def write(self) -> None:
        """Write predictions and scores on the first process."""
        if self.predictions is not None and self.answered and rank_zero():
            write_predictions(self.predictions, self.key, self.answered)
        if self.path is not None and rank_zero():
            write_json(self.path, {"key": self.key, "benchmarks": self.scores})

    def score(
        self, trainer: Trainer, module: FineTune, benchmarks: Sequence[BenchmarkTask]
    ) -> dict[str, dict[str, Any]]:
        """Return scores by benchmark; random states and submodules' modes are restored."""
        scores: dict[str, dict[str, Any]] = {}
        with as_it_was(module), self.folder() as folder:
            for benchmark in benchmarks:
                start = time.perf_counter()
                score = self.asked(benchmark, self.live(trainer, module, benchmark, folder))
                took = round(time.perf_counter() - start, 3)
                scores[benchmark.name] = {**as_json(score), "seconds": took}
                warn(benchmark.name, score)
        return scores

    def asked(self, benchmark: BenchmarkTask, live: LiveModel) -> Score:
        """Score one benchmark; the result is the same on every process."""
        if isinstance(benchmark, ModelBenchmark):
            score = benchmark.run(live)
            if self.predictions is not None and score.answers:
                self.answered[benchmark.name] = answers_table(benchmark.name, score.answers)
            return score
        answers = self.answers(benchmark, live)
        score = benchmark.score(answers)
        if self.predictions is not None:
            self.answered[benchmark.name] = predictions_table(benchmark, answers, score)
        return score

    def answers(self, benchmark: BenchmarkTask, live: LiveModel) -> list[str]:
        """Return one answer per item, in the order of the items, on every process."""
        items = benchmark.items()

        def answer(block: list[int]) -> list[str]:
            prompts = self.prompts([items[row] for row in block], live.module.processor)
            return live.generate(prompts, benchmark.max_new_tokens)

        lengths = [len(item.question) for item in items]
        try:
            return live.spread(lengths, answer, f"{benchmark.name}: answering")
        except SharedFailure as failure:
            raise failure.__cause__ or failure

    def live(
        self, trainer: Trainer, module: FineTune, benchmark: BenchmarkTask, folder: Path
    ) -> LiveModel:
        """Build the `LiveModel` that a benchmark queries."""
        return LiveModel(
            module,
            self.encoder(module.processor),
            trainer.precision_plugin.forward_context,
            BatchSize(getattr(benchmark, "batch_size", None) or self.batch_size),
            folder,
            self.pixels,
        )

    def prompts(self, items: list[Item], processor: Any) -> dict[str, Any]:  # noqa: ANN401
        """Encode left-padded prompts (B, L) with their images."""
        asked = [
            (i.history, i.question, [open_rgb(f, MAX_PIXELS, self.pixels) for f in i.images])
            for i in items
        ]
        batch: dict[str, Any] = self.encoder(processor).prompts(asked)
        return batch

    def encoder(self, processor: Any) -> Any:  # noqa: ANN401 - see `encoder_of`
        """Build the encoder of conversations, without truncation."""
        return encoder_of(self.template, processor, UNCUT, self.pixels)

    def folder(self) -> AbstractContextManager[Path]:
        """Return the output folder of benchmarks: beside the scores, or a temporary one."""
        if self.path is None:
            return temporary_folder()
        return nullcontext(self.path.with_suffix(""))


def tuned(module: LightningModule) -> FineTune:
    """Return the module, which must be a `FineTune` module."""
    if not isinstance(module, FineTune):
        raise TypeError(f"Benchmark scores a FineTune module, not {type(module).__name__}")
    return module


def as_json(score: Score) -> dict[str, Any]:
    """Build a scores file's entry of one benchmark; an unknown score is null."""
    reasons = score.reasons if isinstance(score, PartialScore) else {}
    return {
        "score": round(score.score, 4) if isfinite(score.score) else None,
        "tasks": {task: round(value, 4) for task, value in score.tasks.items()},
        "n": score.n,
        **score.kept(),
        **({"reasons": reasons} if reasons else {}),
    }


def warn(name: str, score: Score) -> None:
    """Print the tasks that could not be scored, with the reasons."""
    if isinstance(score, PartialScore) and rank_zero():
        for task, reason in score.reasons.items():
            message = escape(f"{name}: {task} has no score: {reason}")
            console.print(f"[yellow]![/] {message}", soft_wrap=True)
