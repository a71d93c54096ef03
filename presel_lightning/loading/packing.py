"""Batches packed into rows of a token capacity, instead of padded to the longest sample."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.data.texts import Texts
from presel_lightning.functional.packing import next_fit, pack_sequences
from presel_lightning.functional.token_loss import IGNORE
from presel_lightning.loading.encoder import SampleEncoder
from presel_lightning.loading.truncation import items_of, text_items
from presel_lightning.models.packed import SAMPLE

Batch = dict[str, Any]


def packed(batch: Batch, capacity: int) -> Batch:
    """Put the samples of a right-padded batch one behind another into rows.

    Rows are filled in the order of the samples (`next_fit`), so that their images stay in order.
    There is no attention mask: positions restart with every sample, and attention does not look
    past a restart. A label never stands on the first token of a sample, as the token before it is
    another sample's.

    Args:
        batch: tokens, `attention_mask` and labels, all (B, L), and what shows the images.
        capacity: tokens of a row; a longer sample gets a row of its own.

    Returns:
        The same entries with tokens in rows (R, C), C at most the capacity, and `position_ids` and
        `sample` (`SAMPLE`) beside them.
    """
    mask = batch["attention_mask"].bool()
    lengths = mask.sum(dim=1)  # (B,)
    row = torch.from_numpy(next_fit(lengths.numpy(), capacity))  # (B,)
    ends = lengths.cumsum(0)
    starts = ends - lengths
    first = torch.searchsorted(row, torch.arange(int(row[-1]) + 1))  # sample that begins each row
    column = starts - starts[first][row]  # (B,) place of each sample in its row
    sample, within = mask.nonzero(as_tuple=True)  # (T,) in order
    places = row[sample], column[sample] + within
    shape = int(row[-1]) + 1, int(places[1].max()) + 1

    def laid(values: Tensor, empty: int) -> Tensor:
        rows = torch.full(shape, empty, dtype=values.dtype)
        rows[places] = values
        return rows

    found = {
        name: laid(value[mask], IGNORE if name == "labels" else 0)
        if torch.is_tensor(value) and value.shape == mask.shape
        else value
        for name, value in batch.items()
        if name != "attention_mask"
    }
    found["labels"][row, column] = IGNORE
    found[SAMPLE] = laid(sample, -1)
    found["position_ids"] = positions(found[SAMPLE])
    return found


def row_by_row(samples: list[Any], capacity: int) -> list[Any]:
    """Order samples of a batch as `pack_sequences` puts them into rows.

    An encoder that encodes a batch at once does not know the lengths before: its samples stay in order.

    Args:
        samples: of `SampleEncoder.sample`.
        capacity: tokens of a row.
    """
    if not all("encoded" in sample for sample in samples):
        return samples
    lengths = np.array([len(sample["encoded"].input_ids) for sample in samples])
    return [samples[place] for row in pack_sequences(lengths, capacity) for place in row]


def positions(samples: Tensor) -> Tensor:
    """Count tokens (R, C) from 0 within each sample, and within the padding behind them."""
    place = torch.arange(samples.shape[1]).expand_as(samples)
    begins = torch.ones_like(samples, dtype=torch.bool)
    begins[:, 1:] = samples[:, 1:] != samples[:, :-1]
    start = torch.where(begins, place, 0).cummax(dim=1).values
    return place - start


def token_lengths(
    encoder: SampleEncoder, pool: Pool, rows: np.ndarray, texts: Texts | None = None
) -> np.ndarray:
    """Tokens of these samples, and of text-only records behind them, (N,)."""
    items: Iterable[Any] = chain(items_of(pool, rows), text_items(texts) if texts else ())
    n = len(rows) + len(texts or ())
    return np.fromiter((encoder.length(item.turns, item.image) for item in items), np.int64, n)
