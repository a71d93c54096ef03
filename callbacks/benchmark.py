"""Score benchmarks at the end of a fit, or of a model that was fitted before."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from presel_lightning.console import track
from presel_lightning.data.conversation import AUTO
from presel_lightning.data.encoders import encoder_of
from presel_lightning.data.images import open_rgb
from presel_lightning.eval.annotation_file import BenchmarkTask, Item
from presel_lightning.models.parallel import is_sharded
from presel_lightning.ranks import gather, place, rank_zero
from presel_lightning.store import read_json, write_json
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
        batch_size: items answered at a time, on each device.
    """

    def __init__(
        self,
        benchmarks: list[BenchmarkTask],
        template: str = AUTO,
        path: Path | None = None,
        key: str = "",
        batch_size: int = 64,
    ) -> None:
        self.benchmarks = benchmarks
        self.template = template
        self.path = path
        self.key = key
        self.batch_size = batch_size
        self.scores: dict[str, dict[str, Any]] = {}

    def done(self) -> bool:
        """Whether the file holds the scores of this very model on these benchmarks."""
        return (
            self.path is not None and self.path.exists() and read_json(self.path)["key"] == self.key
        )

    def seconds(self) -> float:
        """How long the scoring took."""
        return float(sum(found["seconds"] for found in self.scores.values()))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score what has been fitted; not a model that is cut over devices, which cannot answer.

        The recipe scores that one when it has been saved and loaded whole.
        """
        if not isinstance(pl_module, FineTune):
            raise TypeError(f"Benchmark scores a FineTune module, not {type(pl_module).__name__}")
        if not is_sharded(pl_module.model):
            self.run(trainer, pl_module)

    @torch.inference_mode()
    def run(self, trainer: Trainer, module: FineTune) -> dict[str, dict[str, Any]]:
        """Score a model that lies on the Trainer's device."""
        was_training = module.training
        module.eval()
        for benchmark in self.benchmarks:
            start = time.perf_counter()
            score = benchmark.score(self.answers(trainer, module, benchmark))
            self.scores[benchmark.name] = {
                "score": round(score.score, 4),
                "tasks": {task: round(value, 4) for task, value in score.tasks.items()},
                "n": score.n,
                "seconds": round(time.perf_counter() - start, 3),
            }
        module.train(was_training)
        if self.path is not None and rank_zero():
            write_json(self.path, {"key": self.key, "benchmarks": self.scores})
        return self.scores

    def answers(self, trainer: Trainer, module: FineTune, benchmark: BenchmarkTask) -> list[str]:
        """One answer an item, in the order of the items, on every process."""
        items = benchmark.items()
        # like lengths together, so that little is padded
        order = sorted(range(len(items)), key=lambda i: len(items[i].question))
        size = self.batch_size
        blocks = [order[start : start + size] for start in range(0, len(order), size)]
        rank, world = place()
        mine = blocks[rank::world]
        stop = self.encoder(module.processor).stop_ids()
        answered: list[tuple[int, str]] = []
        for block in track(mine, f"{benchmark.name}: answering", len(mine)):
            batch = self.prompts([items[i] for i in block], module.processor)
            batch = {name: value.to(module.device) for name, value in batch.items()}
            with trainer.precision_plugin.forward_context():
                texts = module.generate(batch, benchmark.max_new_tokens, stop)
            answered += zip(block, texts, strict=True)
        found = dict(gather(answered))
        return [found[i] for i in range(len(items))]

    def prompts(self, items: list[Item], processor: Any) -> dict[str, Any]:  # noqa: ANN401
        """Left-padded prompts (B, L) with their images."""
        asked = [(item.history, item.question, open_rgb(item.image)) for item in items]
        batch: dict[str, Any] = self.encoder(processor).prompts(asked)
        return batch

    def encoder(self, processor: Any) -> Any:  # noqa: ANN401 - see `encoder_of`
        """Conversations to batches; prompts are never cut."""
        return encoder_of(self.template, processor, UNCUT)
