"""How long samples are in tokens, without decoding an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import NamedTuple

import numpy as np

from presel_lightning.check.report import Report, share
from presel_lightning.data.encoders import ChatEncoder, Encoder
from presel_lightning.records import Turn

UNCUT = 1 << 30
"""A length that nothing reaches."""
PERCENTILES = (50, 90, 99)


class Lengths(NamedTuple):
    """Tokens after the cut: of the longest sample, and of all that a mean sample answers."""

    longest: int
    answer: int


def report_tokens(
    encoder: Encoder | ChatEncoder, sample: Sequence[Sequence[Turn]], report: Report
) -> Lengths:
    """Show lengths and what `max_length` cuts off; nothing where no instruction is there yet.

    Raises:
        UserError: `max_length` would cut the image of a sample.
    """
    if not sample:
        return Lengths(encoder.max_length, encoder.max_length)
    if isinstance(encoder, ChatEncoder):
        report.add("tokens", "of an image", "as many as its size asks for; not counted below")
    uncut = replace(encoder, max_length=UNCUT)
    lengths = np.array([len(uncut(turns).input_ids) for turns in sample])  # (n,)
    answers = np.array([encoder(turns).n_labels for turns in sample])  # (n,)
    middle = ", ".join(f"{q} % {round(np.percentile(lengths, q)):,}" for q in PERCENTILES)
    report.add("tokens", f"of {len(lengths):,} samples", f"{middle}, longest {lengths.max():,}")
    cut, empty = int((lengths > encoder.max_length).sum()), int((answers == 0).sum())
    report.add("tokens", f"longer than {encoder.max_length:,}: cut", share(cut, len(lengths)))
    if empty:
        report.notes.append(
            f"data.max_length {encoder.max_length} leaves {share(empty, len(lengths))} of the "
            "samples without an answer to learn from; raise it"
        )
    counted = isinstance(encoder, Encoder)
    longest = min(lengths.max(), encoder.max_length) if counted else encoder.max_length
    return Lengths(int(longest), ceil(answers.mean()))
