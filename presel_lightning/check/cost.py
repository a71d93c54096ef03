"""Estimates of a run: samples by stage, GPU-hours, GPU memory, disk space."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from presel_lightning.check.network import Network
from presel_lightning.check.report import Report
from presel_lightning.console import size
from presel_lightning.data.sizes import count_of
from presel_lightning.errors import UserError
from presel_lightning.recipe.passes.base import Pass, Throughput, Work
from presel_lightning.run.checkpoints import KEPT
from presel_lightning.run.ranges import Size
from presel_lightning.signals import Signal

ADAM_BYTES = 16
"""Bytes of a trained fp32 parameter: itself, its gradient, and AdamW's two moments."""
LAYER_BYTES = 34
"""Bytes of a transformer layer's activations per token and unit of width, in 16 bits, without the
attention matrix (Korthikanti et al. 2022, "Reducing Activation Recomputation", Eq. 2)."""
LOGIT_BYTES = 10
"""Bytes of a logit: in 16 bits, in fp32 for the loss, and the gradient of that."""


@dataclass(frozen=True)
class Answering:
    """One batch of a benchmark on a device.

    Attributes:
        name: name of the benchmark.
        batch: items of a batch.
        prompt: tokens of the longest prompt, image included.
        answer: maximum tokens of an answer.
        width: bytes of an element of the KV cache.
    """

    name: str
    batch: int
    prompt: int
    answer: int
    width: int


def gpu_hours(work: Work, speed: Throughput) -> dict[str, float]:
    """Estimate the GPU-hours of each stage.

    Args:
        work: samples by stage.
        speed: samples per second of one GPU.
    """
    seconds: dict[str, float] = {}
    for name in work.needs:
        seconds |= Pass.known[name].estimate(work, speed)
    seconds |= {
        arm: (n + work.texts) * work.epochs["final"] / speed.training
        for arm, n in work.arms.items()
    }
    return {stage: took / 3600 for stage, took in seconds.items() if took}


@dataclass(frozen=True)
class Comparison:
    """What `compare` would do by the same configuration.

    Attributes:
        selectors: signals that each selector needs.
        budgets: values of data.budget.
        seeds: number of seeds.
        full: whether full data is trained on, once a seed.
    """

    selectors: tuple[tuple[str, ...], ...]
    budgets: tuple[Size, ...]
    seeds: int
    full: bool

    @property
    def needs(self) -> tuple[str, ...]:
        """Signals that are made."""
        return tuple(dict.fromkeys(need for needs in self.selectors for need in needs))

    @property
    def fits(self) -> int:
        """Number of cells that are trained."""
        return self.seeds * (len(self.selectors) * len(self.budgets) + self.full)


def comparison_hours(comparison: Comparison, work: Work, speed: Throughput) -> dict[str, float]:
    """Estimate the GPU-hours of a comparison: signals once, or once a seed, and a fit a cell.

    Args:
        comparison: what is compared.
        work: of one run, with the reference split that every cell holds and all distinct images.
        speed: samples per second of one GPU.
    """
    seconds: dict[str, float] = {}
    for need in comparison.needs:
        times = comparison.seeds if Signal.known[need].on_reference else 1
        for stage, took in Pass.known[need].estimate(work, speed).items():
            seconds[stage] = times * took
    sizes = [count_of(budget, work.pool, "budgets") for budget in comparison.budgets]
    one = work.epochs["final"] / speed.training
    trained = len(comparison.selectors) * sum(size + work.texts for size in sizes)
    seconds["cells"] = comparison.seeds * trained * one
    if comparison.full:
        seconds["full"] = comparison.seeds * (work.pool + work.texts) * one
    return {stage: took / 3600 for stage, took in seconds.items() if took}


def report_comparison(comparison: Comparison, hours: dict[str, float], report: Report) -> None:
    """Report the GPU-hours of a comparison by what takes them."""
    total = in_hours(sum(hours.values()))
    report.add("compare", "GPU-hours in all", f"{total}, {comparison.fits} fits")
    for stage, took in hours.items():
        report.add("compare", stage, in_hours(took))


def report_cost(hours: dict[str, float], speed: Throughput, source: str, report: Report) -> None:
    """Report the GPU-hours by stage, and the throughput that they follow from."""
    report.add("GPU-hours", "in all", f"{in_hours(sum(hours.values()))} (benchmarks not counted)")
    for stage, took in hours.items():
        report.add("GPU-hours", stage, in_hours(took))
    rates = f"fits {speed.training:.3g}, losses {speed.losses:.3g}, features {speed.features:.3g}"
    report.add("GPU-hours", "at samples/s", f"{rates} ({source})")


def in_hours(hours: float) -> str:
    """Format GPU-hours to two decimals."""
    return f"{hours:.2f}" if hours >= 0.01 else "below 0.01"


def gpu_memory(
    network: Network,
    per_device: int,
    length: int,
    answer: int,
    *,
    checkpointing: bool,
    shards: int = 1,
) -> float:
    """Estimate the bytes that one GPU needs in a fit.

    Weights and optimizer, and the activations of one batch: with gradient checkpointing the input
    of every layer and the activations of one, else the activations of all; and the logits of the
    answers.

    Args:
        network: the model.
        per_device: samples of a step on one device.
        length: tokens of the longest sample.
        answer: tokens of an answer.
        checkpointing: whether activations are recomputed.
        shards: devices that weights and optimizer are sharded over.
    """
    held = (network.frozen_bytes + network.trained * ADAM_BYTES) / shards
    tokens = per_device * length
    inside = tokens * network.hidden * LAYER_BYTES
    if checkpointing:
        activations = inside + network.layers * tokens * network.hidden * 2
    else:
        activations = inside * network.layers
    return held + activations + per_device * answer * network.vocabulary * LOGIT_BYTES


def cache_bytes(network: Network, asked: Answering) -> float:
    r"""Compute the bytes of the KV cache at the last token of the answers.

    .. math:: B \,(L_{prompt} + L_{answer}) \cdot 2 \, n_{layers} \, n_{kv\,heads} \, d_{head}
              \cdot \mathrm{width}
    """
    return asked.batch * (asked.prompt + asked.answer) * network.cached * asked.width


def answering_memory(network: Network, asked: Answering, shards: int = 1) -> float:
    """Estimate the bytes that one GPU needs to evaluate a batch.

    Weights; gradients and optimizer of the fit that has just ended, unless it was sharded: then the
    saved model is loaded whole; the KV cache; and the activations of one layer in the prefill.

    Args:
        network: the model.
        asked: the batch.
        shards: devices that the fit shards weights and optimizer over.
    """
    held = network.frozen_bytes + network.trained * (ADAM_BYTES if shards == 1 else 4)
    return held + asked.batch * bytes_an_item(network, asked)


def bytes_an_item(network: Network, asked: Answering) -> float:
    """Return the bytes that each item of a batch adds."""
    inside = asked.prompt * network.hidden * LAYER_BYTES
    return inside + cache_bytes(network, asked) / asked.batch


def fitting_items(network: Network, asked: Answering, shards: int, there: float) -> int:
    """Compute how many items fit into the memory of a GPU at a time; 0 where none does.

    Args:
        network: the model.
        asked: a batch of them.
        shards: see `answering_memory`.
        there: memory of the GPU in bytes.
    """
    alone = answering_memory(network, replace(asked, batch=1), shards)
    each = bytes_an_item(network, asked)
    return max(0, int((there - alone + each) // each))


def disk_bytes(work: Work, network: Network, feature_width: int, annotations: int) -> float:
    """Estimate the largest size of the run folder in bytes.

    Signals of a vector a sample, as blocks and merged; the records; selection and reference split
    as LLaVA JSON; the model of each fit; the training checkpoints of one, with AdamW's moments: those
    that are kept, and the one that is being written.
    """
    signals = sum(Pass.known[name].disk(work, network.hidden, feature_width) for name in work.needs)
    listed = (work.reference * 2 + work.arms["final"]) / max(1, work.pool)
    models = network.trained * (4 * (len(work.arms) + work.signal_fits) + 12 * (KEPT + 1))
    return signals + annotations * (1 + listed) + models + warm_up_bytes(work, network)


def warm_up_bytes(work: Work, network: Network) -> int:
    """Count the bytes of earlier checkpoints of the reference fit, with moments, twice as it ends."""
    return 2 * 12 * network.trained * work.earlier_checkpoints


def comparison_bytes(
    comparison: Comparison,
    work: Work,
    network: Network,
    feature_width: int,
    annotations: int,
) -> float:
    """Estimate the largest size of the folder of a comparison in bytes.

    Every signal once, or once a seed; the records once; a selection and a model a cell; the training
    checkpoints of one cell, as in `disk_bytes`. Cells that are fitted at the same time need more.
    """
    work = replace(work, needs=comparison.needs)
    total = float(annotations)
    for need in comparison.needs:
        times = comparison.seeds if Signal.known[need].on_reference else 1
        total += times * Pass.known[need].disk(work, network.hidden, feature_width)
    sizes = [count_of(budget, work.pool, "budgets") for budget in comparison.budgets]
    chosen = comparison.seeds * len(comparison.selectors) * sum(sizes)
    total += annotations * chosen / max(1, work.pool)
    fits = comparison.fits + comparison.seeds * work.signal_fits
    warm_up = comparison.seeds * warm_up_bytes(work, network)
    return total + network.trained * (4 * fits + 12 * (KEPT + 1)) + warm_up


def report_disk(needed: float, place: Path, what: str, cure: str, report: Report) -> None:
    """Report the disk space of a folder; too little free space becomes a failure.

    Args:
        needed: bytes.
        place: the folder, which may not exist yet.
        what: name of the folder in the report.
        cure: how to move it to another disk.
        report: collects the results.
    """
    there = next(path for path in (place, *place.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    report.add("disk", what, f"needs {size(needed)}, {size(free)} free at {there}")
    with report.collecting():
        if needed > free:
            raise UserError(
                f"the {what} {place} needs about {size(needed)} and its disk has {size(free)} "
                f"free: make room, or {cure}"
            )
