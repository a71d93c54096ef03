"""How long samples are in tokens, without decoding an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import NamedTuple

import numpy as np

from presel_lightning.check.report import Report, share
from presel_lightning.loading.chat_encoder import ChatEncoder
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.records import Turn

UNCUT = 1 << 30
"""A length that nothing reaches."""
PERCENTILES = (50, 90, 99)


class Lengths(NamedTuple):
    """Tokens after the cut: of the longest sample, and of all that a mean sample answers."""

    longest: int
    answer: int


def report_tokens(
    encoder: Encoder | ChatEncoder,
    sample: Sequence[Sequence[Turn]],
    report: Report,
    *,
    image: bool = True,
) -> Lengths:
    """Show lengths and what `max_length` cuts off; nothing where no instruction is there yet.

    Args:
        encoder: of the model.
        sample: conversations.
        report: takes it down.
        image: whether these show one.

    Raises:
        UserError: `max_length` would cut the image of a sample.
    """
    if not sample:
        return Lengths(encoder.max_length, encoder.max_length)
    if image and isinstance(encoder, ChatEncoder):
        report.add("tokens", "of an image", "as many as its size asks for; not counted below")
    shown = {} if image or isinstance(encoder, ChatEncoder) else {"image": False}
    uncut = replace(encoder, max_length=UNCUT)
    lengths = np.array([len(uncut(turns, **shown).input_ids) for turns in sample])  # (n,)
    answers = np.array([encoder(turns, **shown).n_labels for turns in sample])  # (n,)
    middle = ", ".join(f"{q} % {round(np.percentile(lengths, q)):,}" for q in PERCENTILES)
    what, of = ("samples", "") if image else ("text-only records", " of these")
    report.add("tokens", f"of {len(lengths):,} {what}", f"{middle}, longest {lengths.max():,}")
    cut, empty = int((lengths > encoder.max_length).sum()), int((answers == 0).sum())
    report.add("tokens", f"longer than {encoder.max_length:,}{of}: cut", share(cut, len(lengths)))
    if empty:
        report.notes.append(
            f"data.max_length {encoder.max_length} leaves {share(empty, len(lengths))} of the "
            f"{what} without an answer to learn from; raise it"
        )
    counted = isinstance(encoder, Encoder) or not image
    longest = min(lengths.max(), encoder.max_length) if counted else encoder.max_length
    return Lengths(int(longest), ceil(answers.mean()))
