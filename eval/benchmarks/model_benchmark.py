"""Benchmarks that query the model themselves, and the model on all processes."""

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
    """Failure of one process, raised on all of them."""


def share(mine: T, failure: str | None = None) -> list[T]:
    """Gather the results of all processes, in rank order, on every process.

    Args:
        mine: result of this process.
        failure: reason of its failure.

    Returns:
        One result per rank.

    Raises:
        SharedFailure: on every process, if one has failed.
    """
    replies = gather([(failure, mine)])
    for reason, _ in replies:
        if reason is not None:
            raise SharedFailure(reason)
    return [made for _, made in replies]


def describe(error: BaseException) -> str:
    """Format class and message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@dataclass(frozen=True)
class LiveModel:
    """A model in memory that answers questions, distributed over the processes.

    Attributes:
        module: module in eval mode, on its device.
        encoder: encoder of the module.
        context: context of its precision.
        batch_size: batch size on each device; it shrinks on out-of-memory errors.
        folder: output folder of a benchmark.
        pixels: conversion of an image to RGB; see `rgb_of`.
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
        """Answer items in blocks distributed over the processes, and gather all answers.

        Blocks and their padding do not depend on the number of processes. A block that does not fit
        into a process's memory is answered there in parts.

        Args:
            lengths: (n,) lengths of the questions; similar ones share a block, to pad little.
            answer: function from rows of a block to their answers.
            what: label of the progress bar.

        Returns:
            (n,) answers, on every process.

        Raises:
            SharedFailure: `answer` failed on some process.
        """
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        size = self.batch_size.asked
        blocks = [order[start : start + size] for start in range(0, len(order), size)]
        rank, world = rank_and_world()
        mine = blocks[rank::world]
        answered: list[tuple[int, T]] = []
        failed: Exception | None = None
        try:
            for block in track(mine, what, len(mine)):
                answered += zip(block, self.batch_size.run(block, answer), strict=True)
        except Exception as error:  # noqa: BLE001 - raised on all processes
            failed = error
        try:
            parts = share(answered, describe(failed) if failed else None)
        except SharedFailure as failure:
            raise failure from failed
        found = dict(pair for part in parts for pair in part)
        return [found[row] for row in range(len(lengths))]

    @torch.inference_mode()
    def generate(self, prompts: dict[str, Any], max_new_tokens: int) -> list[str]:
        """Answer a batch of encoded prompts by greedy decoding."""
        batch = self._moved(prompts)
        with self.context():
            return self.module.generate(batch, max_new_tokens, self.encoder.stop_ids())

    @torch.inference_mode()
    def losses(self, turns: Sequence[tuple[Turn, Image.Image]]) -> list[tuple[float, bool]]:
        """Compute the mean token loss of each answer, in nats, and whether it is the greedy one.

        The end token of an answer counts as one of its tokens.
        """
        parts = [self.encoder.sample([turn], image) for turn, image in turns]
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
    """Score of a model where some tasks may have failed; then `score` is NaN.

    Attributes:
        reasons: {task: reason of its failure}.
    """

    reasons: dict[str, str] = field(default_factory=dict)


class ModelBenchmark(BenchmarkTask):
    """Base class of a benchmark that queries the model itself, without `Item`s."""

    max_new_tokens = 0

    @abstractmethod
    def run(self, model: LiveModel) -> Score:
        """Query a model and score its answers; all processes call it and get the score."""

    @abstractmethod
    def examine(self) -> str:
        """Check that it can run, before any training."""

    def items(self) -> list[Item]:
        """Return no items."""
        return []

    def score(self, predictions: list[str]) -> Score:
        """Raise, as `run` computes the score."""
        raise TypeError(f"{type(self).__name__} queries the model itself; call `run`")


@contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """Set a module to eval mode; restore each submodule's mode and all random states at the end."""
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
    """Set environment variables (None removes one); restore the environment at the end."""
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
