"""Samples put into sequences of a token capacity before they are written: lengths, order, table."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.filters.uids import as_hex
from presel_lightning.functional.packing import pack_sequences
from presel_lightning.run.files import replacing
from presel_lightning.run.units import Stage
from presel_lightning.shards.index import IndexStage
from presel_lightning.shards.rows import caption_in
from presel_lightning.shards.tar_members import mapped


@dataclass(frozen=True)
class Packing:
    """What sequences are packed to.

    Args:
        capacity: tokens of a sequence; a longer sample gets one of its own.
        tokenizer: folder or hub id of the model that captions are counted for.
        image_tokens: tokens of a sample beside its caption: its image, question and template.
    """

    capacity: int
    tokenizer: str
    image_tokens: int


@dataclass(frozen=True)
class TokenStage(Stage):
    """Tokens of the samples of each shard that are asked for: `tokens`, in the order of the index.

    Args:
        folder: of the manifests.
        key: what else defines the result.
        index: of the shards.
        packing: tokenizer, and what is added to each caption.
    """

    index: IndexStage
    packing: Packing

    def defined_by(self, number: int) -> object:
        """The shard."""
        return self.index.defined_by(number)

    def __call__(self, number: int) -> None:
        """Count a shard."""
        from presel_lightning.models.tokenizer import load_tokenizer  # transformers

        captions = self._captions(number)
        ids = load_tokenizer(self.packing.tokenizer)(captions)["input_ids"] if captions else []
        tokens = np.array([len(each) + self.packing.image_tokens for each in ids], np.int64)
        self.save(number, "tokens", np.maximum(tokens, 1))
        self.finish(number, {"samples": len(tokens)})

    def _captions(self, number: int) -> list[str]:
        if not len(rows := self.index.mapped(number, "samples")):
            return []
        members = self.index.mapped(number, "members")
        endings = self.index.read(number)["endings"]
        bounds = itertools.pairwise([*rows["first"].tolist(), len(members)])
        with mapped(self.index.path(number)) as tar:
            each = (
                {
                    endings[ending]: tar[at : at + n]
                    for at, n, ending in members[a:b].tolist()
                    if endings[ending] in ("txt", "json")
                }
                for a, b in bounds
            )
            return [caption_in(found.get("txt"), found.get("json")) for found in each]


def pack_copies(
    tokens: np.ndarray, capacity: int, seed: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Order copies sequence by sequence.

    Args:
        tokens: (N,) of each copy.
        capacity: tokens of a sequence.
        seed: of a shuffle of the sequences; None keeps their order, the longest samples first.

    Returns:
        (order, first): number of the copy at each place, (N,); place at which each sequence begins.
    """
    packs = pack_sequences(tokens, capacity)
    if seed is not None:
        packs = [packs[n] for n in np.random.default_rng(seed).permutation(len(packs))]
    sizes = np.array([len(pack) for pack in packs], np.int64)
    return np.concatenate([np.empty(0, np.int64), *packs]), np.cumsum(sizes) - sizes


def write_packs(stage: TokenStage, folder: Path, shards: tuple[int, ...], path: Path) -> None:
    """Write which samples stand in which sequence, in the order of the shards.

    Args:
        stage: has counted the tokens.
        folder: of the plan.
        shards: first copy of each new shard, and the end.
        path: table with shard, sequence, key and tokens, a row for each sample.
    """
    keys: list[str] = []
    tokens = [np.empty(0, np.int64)]
    for number in range(len(stage.index.shards)):
        copies = np.diff(np.load(folder / f"copies-{number}.npy"))
        uids = as_hex(stage.index.mapped(number, "samples")["uid"])
        keys += [
            f"{uid}-{j}" for uid, n in zip(uids, copies.tolist(), strict=True) for j in range(n)
        ]
        tokens.append(np.repeat(stage.mapped(number, "tokens"), copies))
    order, first = np.load(folder / "order.npy"), np.load(folder / "packs.npy")
    places = np.arange(len(order))
    table = {
        "shard": np.searchsorted(shards, places, "right") - 1,
        "sequence": np.searchsorted(first, places, "right") - 1,
        "key": pa.array(keys, pa.string()).take(pa.array(order)),
        "tokens": np.concatenate(tokens)[order],
    }
    with replacing(path) as part:
        pq.write_table(pa.table(table), part)
