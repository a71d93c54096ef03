"""Checks of the benchmarks, and the memory of their evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from presel_lightning.check.cost import Answering, answering_memory, cache_bytes, fitting_items
from presel_lightning.check.network import Network, dtype_width
from presel_lightning.check.report import Report
from presel_lightning.console import size
from presel_lightning.eval.benchmarks.base import BenchmarkTask, Item
from presel_lightning.eval.intervals.published import full_scores
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.loading.tokens import UNCUT
from presel_lightning.models import Processor
from presel_lightning.models.chat import ChatProcessor
from presel_lightning.recipe.examination import refuse_items
from presel_lightning.recipe.plan import Plan
from presel_lightning.records import Turn

COUNTED = 16
"""Number of items whose tokens are counted: those with the longest text."""
QUESTION = 128
"""Assumed tokens of a question that is not known in advance."""


@dataclass(frozen=True)
class Reader:
    """Encodes prompts as the model reads them.

    Attributes:
        data: data module of the run.
        processor: processor of the model.
        width: bytes of an element of the KV cache.
    """

    data: SelectionDataModule
    processor: Processor | ChatProcessor
    width: int

    def answering(self, benchmark: BenchmarkTask) -> Answering:
        """Return the batch of a benchmark that a device holds at a time.

        Raises:
            UserError: an item has several images, and the model takes one.
        """
        refuse_items(self.encoder, [benchmark])
        items = benchmark.items()
        own: int | None = getattr(benchmark, "batch_size", None)
        batch = own or self.data.eval_batch_size
        return Answering(
            benchmark.name,
            min(batch, len(items)) if items else batch,
            self._longest(items),
            benchmark.max_new_tokens,
            self.width,
        )

    @property
    def encoder(self) -> Any:  # noqa: ANN401 - see `encoder_of`
        """What writes the prompts."""
        return encoder_of(self.data.template, self.processor, UNCUT, self.data.pixels)

    def _longest(self, items: list[Item]) -> int:
        """Return the tokens of the longest prompt; a guess where prompts are made on the fly."""
        if not items:
            if isinstance(self.processor, Processor):
                return self.processor.n_image_tokens + QUESTION
            return self.data.max_length
        encoder = self.encoder
        longest = sorted(items, key=lambda item: -len(text_of(item)))[:COUNTED]
        lengths: list[int] = [
            encoder.prompt_length([*item.history, Turn(item.question, "a")], item.images)
            for item in longest
        ]
        return max(lengths)


def text_of(item: Item) -> str:
    """Return the text of an item's prompt."""
    return "".join(turn.question + turn.answer for turn in item.history) + item.question


def cached_width(precision: Any, dtype: str, config: Any) -> int:  # noqa: ANN401
    """Return the bytes of an element of the KV cache.

    Args:
        precision: precision of the Trainer.
        dtype: dtype of the frozen weights, which applies at a precision of 32 bits.
        config: configuration of the model.
    """
    return 2 if "16" in str(precision) else dtype_width(dtype, config)


def examine_benchmarks(plan: Plan, report: Report) -> list[BenchmarkTask]:
    """Check that benchmarks and full-data scores can be read; return the readable benchmarks."""
    sound = []
    for benchmark in plan.benchmarks:
        with report.collecting():
            report.add("benchmarks", benchmark.name, benchmark.examine())
            sound.append(benchmark)
    with report.collecting():
        if plan.full_scores:
            full_scores(plan.full_scores)
    return sound


def examine_answers(
    benchmarks: list[BenchmarkTask], reader: Reader, network: Network, shards: int, report: Report
) -> None:
    """Report the memory of one GPU in evaluation, for the benchmark that needs most of it.

    Args:
        benchmarks: readable benchmarks.
        reader: encodes their prompts.
        network: the model.
        shards: devices that a fit shards weights over; evaluation uses whole weights.
        report: collects the results.
    """
    found = [reader.answering(benchmark) for benchmark in benchmarks]
    if not found:
        return
    most = max(found, key=lambda each: answering_memory(network, each, shards))
    needed, cache = answering_memory(network, most, shards), cache_bytes(network, most)
    what = f"{most.name}: {most.batch} x ({most.prompt:,} + {most.answer:,}) tokens answered"
    report.add("memory", what, f"about {size(needed)} a device, KV cache {size(cache)} of it")
    if torch.cuda.is_available():
        there = torch.cuda.get_device_properties(0).total_memory
        if (fitting := fitting_items(network, most, shards, there)) < most.batch:
            report.notes.append(
                f"answers to {most.name} need about {size(needed)} a device and there are "
                f"{size(there)}: batches will be halved until they fit; data.eval_batch_size "
                f"{max(1, fitting)} may do at once"
            )
