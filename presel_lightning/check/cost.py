"""What the run will take: samples by stage, GPU-hours, memory of a GPU, disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from presel_lightning.check.network import Network
from presel_lightning.check.report import Report, size
from presel_lightning.errors import UserError

ADAM_BYTES = 16
"""Of a trained fp32 parameter: itself, its gradient, and AdamW's two moments."""
LAYER_BYTES = 34
"""Activations of a transformer layer by token and unit of width, in 16 bits, without the
attention matrix (Korthikanti et al. 2022, "Reducing Activation Recomputation", Eq. 2)."""
LOGIT_BYTES = 10
"""Of a logit: in 16 bits, in fp32 for the loss, and the gradient of that."""
PUBLISHED_PARAMETERS = 7.06e9
"""Of LLaVA-1.5-7B, whose cost is published."""


@dataclass(frozen=True)
class Throughput:
    """Samples that one GPU gets through in a second.

    The defaults are the published cost of PreSel with LLaVA-1.5-7B (its cost table; the GPU is not
    named): 76.0 GPU-hours for the fit on all 624,610 to 665,298 samples and 11.0 on 15 % give 2.4.
    Of the 9.0 of the selection, the reference fit then takes 3.6; a pass without backward takes a
    third of a training step, so both losses of a sample two thirds: 2.4; the rest, 3.0, is left
    for the features. They hold for 7 billion parameters and are scaled by the model's size.
    """

    training: float = 2.4
    """Fits, with gradient checkpointing."""
    losses: float = 3.6
    """The IRS loop, both losses of a sample."""
    features: float = 58.0
    """Images through the encoder, decoding included."""

    @classmethod
    def measured(cls, training: float) -> Throughput:
        """From a measured rate of fits alone; losses in their published proportion to it."""
        published = cls()
        return cls(training, training * published.losses / published.training, published.features)

    def scaled(self, parameters: int) -> Throughput:
        """The same GPU with a model of another size; the encoder stays."""
        by = PUBLISHED_PARAMETERS / max(1, parameters)
        return Throughput(self.training * by, self.losses * by, self.features)


@dataclass(frozen=True)
class Work:
    """How many samples each stage gets.

    Attributes:
        reference: of the reference fit and its losses; 0 where the selector needs none.
        images: distinct images to embed; 0 where the selector needs no features.
        arms: samples of each fit after the selection, by arm.
        pool: all samples.
        texts: text-only records, in each of these fits.
        held_out: of the reference split where held-out losses are made of its halves; else 0.
    """

    reference: int
    images: int
    arms: dict[str, int]
    pool: int
    texts: int = 0
    held_out: int = 0

    @property
    def split(self) -> int:
        """Samples of the reference split."""
        return max(self.reference, self.held_out)

    @property
    def fits(self) -> int:
        """How many models are trained and saved."""
        return len(self.arms) + bool(self.reference) + 2 * bool(self.held_out)


@dataclass(frozen=True)
class Answering:
    """What a device holds while a model answers a benchmark.

    Attributes:
        name: of the benchmark.
        batch: items at a time.
        prompt: tokens of the longest prompt, image included.
        answer: tokens that an answer may have.
        width: bytes of a number in the KV cache.
    """

    name: str
    batch: int
    prompt: int
    answer: int
    width: int


def gpu_hours(work: Work, speed: Throughput, epochs: dict[str, float]) -> dict[str, float]:
    """GPU-hours of each stage.

    Held-out losses take a fit on each half of the reference split, by the final recipe without
    text-only records, and three passes: the pre-instruction model over all of it, each of the two
    models over the half that the other was tuned on.

    Args:
        work: samples by stage.
        speed: samples a second of one GPU.
        epochs: of the stages `reference` and `final`.
    """
    seconds = {
        "reference": work.reference * epochs["reference"] / speed.training,
        "losses": work.reference / speed.losses,
        "held_out_a": (work.held_out + 1) // 2 * epochs["final"] / speed.training,
        "held_out_b": work.held_out // 2 * epochs["final"] / speed.training,
        "held_out": 2 * work.held_out / speed.losses,
        "features": work.images / speed.features,
    }
    seconds |= {
        arm: (n + work.texts) * epochs["final"] / speed.training for arm, n in work.arms.items()
    }
    return {stage: took / 3600 for stage, took in seconds.items() if took}


def report_cost(hours: dict[str, float], speed: Throughput, source: str, report: Report) -> None:
    """Show GPU-hours by stage, and from which throughput they follow."""
    report.add("GPU-hours", "in all", f"{in_hours(sum(hours.values()))} (benchmarks not counted)")
    for stage, took in hours.items():
        report.add("GPU-hours", stage, in_hours(took))
    rates = f"fits {speed.training:.3g}, losses {speed.losses:.3g}, features {speed.features:.3g}"
    report.add("GPU-hours", "at samples/s", f"{rates} ({source})")


def in_hours(hours: float) -> str:
    """GPU-hours to a hundredth."""
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
    """Bytes that one GPU needs in a fit.

    Weights and optimiser, and the activations of one batch: with checkpointing the input of every
    layer and the inside of one, else the inside of all; and the logits of the answers.

    Args:
        network: the model.
        per_device: samples of a step on one device.
        length: tokens of the longest sample.
        answer: tokens of an answer.
        checkpointing: whether activations are computed again.
        shards: devices that weights and optimiser are spread over.
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
    r"""Bytes of the KV cache at the last token of the answers.

    .. math:: B \,(L_{prompt} + L_{answer}) \cdot 2 \, n_{layers} \, n_{kv\,heads} \, d_{head}
              \cdot \mathrm{width}
    """
    return asked.batch * (asked.prompt + asked.answer) * network.cached * asked.width


def answering_memory(network: Network, asked: Answering, shards: int = 1) -> float:
    """Bytes that one GPU needs while a model answers a batch.

    Weights; what a fit that has just ended still holds (gradients and optimiser), unless it was
    spread over devices: then the saved model is loaded whole; the KV cache; and the inside of one
    layer while the prompts are read.

    Args:
        network: the model.
        asked: the batch.
        shards: devices that the fit spreads weights and optimiser over.
    """
    held = network.frozen_bytes + network.trained * (ADAM_BYTES if shards == 1 else 4)
    return held + asked.batch * bytes_an_item(network, asked)


def bytes_an_item(network: Network, asked: Answering) -> float:
    """Bytes that each item of a batch adds."""
    inside = asked.prompt * network.hidden * LAYER_BYTES
    return inside + cache_bytes(network, asked) / asked.batch


def fitting_items(network: Network, asked: Answering, shards: int, there: float) -> int:
    """How many items fit into the memory of a GPU at a time, 0 where none does.

    Args:
        network: the model.
        asked: a batch of them.
        shards: see `answering_memory`.
        there: bytes of the GPU.
    """
    alone = answering_memory(network, replace(asked, batch=1), shards)
    each = bytes_an_item(network, asked)
    return max(0, int((there - alone + each) // each))


def disk_bytes(work: Work, network: Network, feature_width: int, annotations: int) -> float:
    """Bytes that the run folder grows to.

    Features (fp32) once as blocks and once in place; the records; the selection and the reference
    as LLaVA JSON; the model of each fit, and one training checkpoint with AdamW's moments.
    """
    features = 4 * feature_width * (work.images + (work.pool if work.images else 0))
    listed = (work.split * 2 + work.arms["final"]) / max(1, work.pool)
    models = network.trained * (4 * work.fits + 12)
    return features + annotations * (1 + listed) + models


def report_disk(needed: float, place: Path, what: str, cure: str, report: Report) -> None:
    """Show what a folder will take; too little space becomes a failure.

    Args:
        needed: bytes.
        place: the folder, which need not exist yet.
        what: name of the folder on the screen.
        cure: how to have it elsewhere.
        report: takes it down.
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
