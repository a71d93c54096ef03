"""Benchmarks that ask a model themselves: the model, and what its processes do together."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from PIL import Image
from torch import nn

from presel_lightning.console import track
from presel_lightning.data.pixels import Pixels
from presel_lightning.eval.benchmarks.base import BenchmarkTask, Item, Score
from presel_lightning.eval.benchmarks.batch_size import BatchSize
from presel_lightning.functional.token_loss import sample_losses, teacher_forced_match
from presel_lightning.loading.encoder import SampleEncoder
from presel_lightning.models.forward import answer_logits, hidden_states, model_inputs
from presel_lightning.records import Turn
from presel_lightning.run.ranks import gather, rank_and_world
from presel_lightning.tasks.finetune import FineTune

T = TypeVar("T")


class SharedFailure(Exception):
    """What went wrong on one process, raised on all of them."""


def share(mine: T, failure: str | None = None) -> list[T]:
    """What each process has made, in the order of their ranks, on every process.

    Args:
        mine: what this process has made.
        failure: why it could not.

    Raises:
        SharedFailure: on every process, where one has failed.
    """
    replies = gather([(failure, mine)])
    for reason, _ in replies:
        if reason is not None:
            raise SharedFailure(reason)
    return [made for _, made in replies]


def describe(error: BaseException) -> str:
    """Kind and message of an error, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@dataclass(frozen=True)
class LiveModel:
    """A model in memory that answers questions; every process answers a part of them.

    Attributes:
        module: in eval mode, on its device.
        encoder: of the module.
        context: the precision that it computes in.
        batch_size: items at a time, on each device; it shrinks where they do not fit.
        folder: where a benchmark may leave files.
        pixels: how an image is read; see `rgb_of`.
    """

    module: FineTune
    encoder: SampleEncoder
    context: Callable[[], AbstractContextManager[Any]]
    batch_size: BatchSize
    folder: Path
    pixels: Pixels = "as_shown"

    def spread(
        self, lengths: Sequence[int], answer: Callable[[list[int]], Sequence[T]], what: str
    ) -> list[T]:
        """Answer items in blocks, each process its own ones; all answers on every process.

        The blocks are the same on any number of processes, and so is what a block is padded to. One
        that does not fit into a process's memory is answered there in parts.

        Args:
            lengths: (n,) of the questions: like ones are asked together, so that little is padded.
            answer: rows of a block to their answers.
            what: shown beside the bar.

        Raises:
            SharedFailure: `answer` failed on some process.
        """
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        size = self.batch_size.asked
        blocks = [order[start : start + size] for start in range(0, len(order), size)]
        rank, world = rank_and_world()
        mine = blocks[rank::world]
        answered: list[tuple[int, T]] = []
        wrong: Exception | None = None
        try:
            for block in track(mine, what, len(mine)):
                answered += zip(block, self.batch_size.run(block, answer), strict=True)
        except Exception as error:  # noqa: BLE001 - all processes are told of it
            wrong = error
        try:
            parts = share(answered, describe(wrong) if wrong else None)
        except SharedFailure as failure:
            raise failure from wrong
        found = dict(pair for part in parts for pair in part)
        return [found[row] for row in range(len(lengths))]

    @torch.inference_mode()
    def generate(self, prompts: dict[str, Any], max_new_tokens: int) -> list[str]:
        """Answer a batch of prompts (of the encoder) greedily."""
        batch = self._moved(prompts)
        with self.context():
            return self.module.generate(batch, max_new_tokens, self.encoder.stop_ids())

    @torch.inference_mode()
    def losses(self, said: Sequence[tuple[Turn, Image.Image]]) -> list[tuple[float, bool]]:
        """Mean token loss of each given answer, in nats, and whether it is the greedy one.

        The mark that ends an answer is one of its tokens.
        """
        parts = [self.encoder.sample([turn], image) for turn, image in said]
        batch = self._moved(self.encoder.batch(parts))
        model, labels = self.module.model, batch["labels"]
        with self.context():
            hidden = hidden_states(model, model_inputs(model, batch))  # (B, L, D)
            logits = answer_logits(model, hidden, labels)  # (T, V)
        sums, counts = sample_losses(logits, labels)
        greedy = teacher_forced_match(logits, labels)
        return list(zip((sums / counts).tolist(), greedy.bool().tolist(), strict=True))

    def _moved(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {name: value.to(self.module.device) for name, value in batch.items()}


@dataclass(frozen=True)
class PartialScore(Score):
    """What a model reached where some tasks may have failed; then `score` is NaN.

    Attributes:
        reasons: {task: why it has no score}.
    """

    reasons: dict[str, str] = field(default_factory=dict)


class ModelBenchmark(BenchmarkTask):
    """A benchmark that asks the model itself, with questions that are not `Item`s."""

    max_new_tokens = 0

    @abstractmethod
    def run(self, model: LiveModel) -> Score:
        """Ask a model and score its answers; all processes call it, and all get the score."""

    @abstractmethod
    def examine(self) -> str:
        """See whether it can run, before anything is trained."""

    def items(self) -> list[Item]:
        """None that could be asked without it."""
        return []

    def score(self, predictions: list[str]) -> Score:
        """Not for such a benchmark."""
        raise TypeError(f"{type(self).__name__} asks the model itself; call `run`")


@contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode; each part's mode, and all random states, come back at the end."""
    modes = {part: part.training for part in module.modules()}
    with isolate_rng():
        module.eval()
        try:
            yield
        finally:
            for part, training in modes.items():
                part.training = training


@contextmanager
def environment(**changes: str | None) -> Iterator[None]:
    """Set environment variables (None removes one); the whole environment comes back at the end."""
    before = dict(os.environ)
    try:
        for name, value in changes.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
