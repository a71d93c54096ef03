"""Score benchmarks at the end of a fit, or of a model that was fitted before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.loading.templates import AUTO
from presel_lightning.models.parallel import is_sharded
from presel_lightning.run.files import read_json, write_json
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.tasks.finetune import FineTune

UNCUT = 1 << 30
"""A length that nothing reaches."""


class Benchmark(Callback):
    """Let the model answer every item of each benchmark, greedily, and score the answers.

    Every process answers its own blocks; the scores are of all of them.

    Args:
        benchmarks: what to score.
        template: conversation template of the prompts, the one that the model was tuned with.
        path: file for the scores (JSON); none is written without it.
        key: name of the model and benchmarks, kept in the file; see `done`.
        batch_size: items answered at a time, on each device; halved where memory runs out.
        every_n_steps: also score every so many steps of a fit, to the Trainer's loggers.
        pixels: how images are read, as those that the model was tuned on (`data.pixels`).
    """

    def __init__(
        self,
        benchmarks: list[BenchmarkTask],
        template: str = AUTO,
        path: Path | None = None,
        key: str = "",
        batch_size: int = 64,
        every_n_steps: int | None = None,
        pixels: Pixels = "as_shown",
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
        self._scored_at = 0
        self.scores: dict[str, dict[str, Any]] = {}

    def done(self) -> bool:
        """Whether the file holds the scores of this very model on these benchmarks.

        One that failed is to be tried again; not one that cannot be scored here.
        """
        return self._found() is not None and len(self.kept()) == len(self.benchmarks)

    def kept(self) -> dict[str, dict[str, Any]]:
        """What the file says of the benchmarks that need not be tried again."""
        found = self._found() or {}
        return {
            benchmark.name: part
            for benchmark in self.benchmarks
            if (part := found.get(benchmark.name))
            and (part["score"] is not None or part.get("reasons") == benchmark.skipped())
        }

    def _found(self) -> dict[str, dict[str, Any]] | None:
        """What the file says of this very model on these benchmarks."""
        if self.path is None or not self.path.exists():
            return None
        content: dict[str, Any] = read_json(self.path)
        return content["benchmarks"] if content["key"] == self.key else None

    def seconds(self) -> float:
        """How long the scoring took."""
        return float(sum(found["seconds"] for found in self.scores.values()))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score what has been fitted; not a model that is cut over devices, which cannot answer.

        The recipe scores that one when it has been saved and loaded whole.
        """
        module = tuned(pl_module)
        if is_sharded(module.model):
            return
        if not self._scored_at == trainer.global_step > 0:  # after the last step, that is
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
        """Score a model that is still being fitted, every `every_n_steps` steps."""
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
        """Score a model that lies on the Trainer's device where the file does not; write it."""
        kept = broadcast(self.kept)
        new = [benchmark for benchmark in self.benchmarks if benchmark.name not in kept]
        found = kept | self.score(trainer, module, new)
        self.scores = {benchmark.name: found[benchmark.name] for benchmark in self.benchmarks}
        self.write()
        return self.scores

    def write(self) -> None:
        """Write the scores down, once for all processes."""
        if self.path is not None and rank_zero():
            write_json(self.path, {"key": self.key, "benchmarks": self.scores})

    def score(
        self, trainer: Trainer, module: FineTune, benchmarks: Sequence[BenchmarkTask]
    ) -> dict[str, dict[str, Any]]:
        """Scores by benchmark; random states and the parts' modes are afterwards as before."""
        scores: dict[str, dict[str, Any]] = {}
        with as_it_was(module), self.folder() as folder:
            for benchmark in benchmarks:
                start = time.perf_counter()
                score = self.asked(benchmark, self.live(trainer, module, benchmark, Path(folder)))
                took = round(time.perf_counter() - start, 3)
                scores[benchmark.name] = {**as_json(score), "seconds": took}
                warn(benchmark.name, score)
        return scores

    def asked(self, benchmark: BenchmarkTask, live: LiveModel) -> Score:
        """Score of one benchmark, the same on every process."""
        if isinstance(benchmark, ModelBenchmark):
            return benchmark.run(live)
        return benchmark.score(self.answers(benchmark, live))

    def answers(self, benchmark: BenchmarkTask, live: LiveModel) -> list[str]:
        """One answer an item, in the order of the items, on every process."""
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
        """The model as a benchmark asks it."""
        return LiveModel(
            module,
            self.encoder(module.processor),
            trainer.precision_plugin.forward_context,
            BatchSize(getattr(benchmark, "batch_size", None) or self.batch_size),
            folder,
            self.pixels,
        )

    def prompts(self, items: list[Item], processor: Any) -> dict[str, Any]:  # noqa: ANN401
        """Left-padded prompts (B, L) with their images."""
        images = [open_rgb(item.image, MAX_PIXELS, self.pixels) for item in items]
        asked = [(i.history, i.question, image) for i, image in zip(items, images, strict=True)]
        batch: dict[str, Any] = self.encoder(processor).prompts(asked)
        return batch

    def encoder(self, processor: Any) -> Any:  # noqa: ANN401 - see `encoder_of`
        """Conversations to batches; prompts are never cut."""
        return encoder_of(self.template, processor, UNCUT)

    def folder(self) -> AbstractContextManager[str | Path]:
        """Where benchmarks leave files: beside the scores, or nowhere for long."""
        if self.path is None:
            return TemporaryDirectory()
        return nullcontext(self.path.with_suffix(""))


def tuned(module: LightningModule) -> FineTune:
    """The module, which must be one that answers questions."""
    if not isinstance(module, FineTune):
        raise TypeError(f"Benchmark scores a FineTune module, not {type(module).__name__}")
    return module


def as_json(score: Score) -> dict[str, Any]:
    """What a scores file says of one benchmark; a score that is not known is null."""
    reasons = score.reasons if isinstance(score, PartialScore) else {}
    return {
        "score": round(score.score, 4) if isfinite(score.score) else None,
        "tasks": {task: round(value, 4) for task, value in score.tasks.items()},
        "n": score.n,
        **score.kept(),
        **({"reasons": reasons} if reasons else {}),
    }


def warn(name: str, score: Score) -> None:
    """Say what could not be scored, and why."""
    if isinstance(score, PartialScore) and rank_zero():
        for task, reason in score.reasons.items():
            told = escape(f"{name}: {task} has no score: {reason}")
            console.print(f"[yellow]![/] {told}", soft_wrap=True)
