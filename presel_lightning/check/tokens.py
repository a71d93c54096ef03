"""Length of samples in tokens, without decoding images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from presel_lightning.check.report import Report, share
from presel_lightning.check.survey import Survey
from presel_lightning.data.conversation import images_of
from presel_lightning.data.images import open_rgb
from presel_lightning.data.resolver import OutsideRoot
from presel_lightning.data.source import PoolSource
from presel_lightning.loading.chat_encoder import ChatEncoder
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.loading.tokens import UNCUT
from presel_lightning.loading.truncation import Item
from presel_lightning.models import Processor
from presel_lightning.models.chat import ChatProcessor
from presel_lightning.recipe.examination import LIMIT, examine_samples, refuse_several
from presel_lightning.records import Turn

PERCENTILES = (50, 90, 99)


class Lengths(NamedTuple):
    """Tokens after truncation: of the longest sample, and of the answers of a mean sample."""

    longest: int
    answer: int


def report_tokens(
    encoder: Encoder | ChatEncoder,
    sample: Sequence[Sequence[Turn]],
    report: Report,
    *,
    image: bool = True,
) -> Lengths:
    """Report lengths and the truncation by `max_length`; nothing where no instruction exists.

    Args:
        encoder: encoder of the model.
        sample: conversations.
        report: collects the results.
        image: whether the samples have an image.

    Returns:
        Lengths after truncation.

    Raises:
        UserError: `max_length` would truncate the image of a sample.
    """
    if not sample:
        return Lengths(encoder.max_length, encoder.max_length)
    if image and isinstance(encoder, ChatEncoder):
        report.add("tokens", "of an image", "depends on its size; not counted below")
    shown = {} if image or isinstance(encoder, ChatEncoder) else {"image": False}
    uncut = replace(encoder, max_length=UNCUT)
    lengths = np.zeros(len(sample), dtype=np.int64)  # (n,)
    answers = np.zeros(len(sample), dtype=np.int64)  # (n,)
    for place, turns in enumerate(sample):
        encoded = uncut(turns, **shown)
        lengths[place] = len(encoded.input_ids)
        if lengths[place] > encoder.max_length:
            encoded = encoder(turns, **shown)
        answers[place] = encoded.n_labels
    middle = ", ".join(f"{q} % {round(np.percentile(lengths, q)):,}" for q in PERCENTILES)
    what, of = ("samples", "") if image else ("text-only records", " of these")
    report.add("tokens", f"of {len(lengths):,} {what}", f"{middle}, longest {lengths.max():,}")
    cut, empty = int((lengths > encoder.max_length).sum()), int((answers == 0).sum())
    report.add("tokens", f"longer than {encoder.max_length:,}{of}: cut", share(cut, len(lengths)))
    if empty and not image:  # of samples the shared examination says more
        report.notes.append(
            f"data.max_length {encoder.max_length} leaves {share(empty, len(lengths))} of the "
            f"{what} without an answer to learn from; raise it"
        )
    counted = isinstance(encoder, Encoder) or not image
    longest = min(lengths.max(), encoder.max_length) if counted else encoder.max_length
    return Lengths(int(longest), ceil(answers.mean()))


def examine_tokens(
    data: SelectionDataModule,
    processor: Processor | ChatProcessor,
    found: Survey,
    source: PoolSource | None,
    report: Report,
) -> Lengths:
    """Encode the sample as a fit will; return the lengths of a training step."""
    with report.collecting():
        encoder = data.encoder(processor)
        refuse_several(encoder, found.several)
        read = partial(open_rgb, max_pixels=data.max_pixels, pixels=data.pixels)
        shown = read if can_show(encoder) else None
        report.notes += examine_samples(encoder, examined_items(found, source), shown)
        lengths = report_tokens(encoder, found.sample, report)
        if not (data.text_only and found.texts):
            return lengths
        texts = report_tokens(encoder, found.texts, report, image=False)
        return Lengths(*map(max, lengths, texts))
    return Lengths(data.max_length, data.max_length)


def can_show(encoder: Any) -> bool:  # noqa: ANN401 - a `SampleEncoder`
    """Whether images can be read yet: those of a model in parts once it is put together."""
    return not isinstance(encoder, Encoder) or encoder.processor.image_processor is not None


def examined_items(found: Survey, source: PoolSource | None) -> list[Item]:
    """The conversations of the sample whose images are there, up to the recipe's own limit."""
    items: list[Item] = []
    if source is None:
        return items
    resolve = source.resolver
    for turns, record in zip(found.sample, found.records, strict=True):
        try:
            images = list(map(resolve, images_of(record)))
        except OutsideRoot:
            continue
        if all(image.is_file() for image in images) and len(items) < LIMIT:
            items.append(Item(str(record.get("id", record["image"])), turns, images))
    return items
