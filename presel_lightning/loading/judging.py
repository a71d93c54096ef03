"""Samples of a shard to what a judge reads: all metrics of a sample share its image and caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from presel_lightning.loading.judge_prompts import CAPTION
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.loading.shard_blocks import Batch, Seen
from presel_lightning.models.chat import ChatProcessor
from presel_lightning.models.llava_processor import Processor

PREFIX, SUFFIXES, PIXELS = "prefix", "suffixes", "pixel_values"
"""Entries of a block whose prefix is computed once: tokens, tokens by metric, images."""

PROMPTS = "prompts"
"""Entry of any other block: whole prompts by metric."""


@dataclass(frozen=True)
class Judging:
    """Writes the prompts of a judge.

    Attributes:
        encoder: of the judge.
        processor: of the judge.
        prompts: what follows the caption, by metric.
        caption_tokens: longer captions are cut, so that no prompt loses its end.
        shares: whether the judge computes what prompts have in common once.
    """

    encoder: Any
    processor: Processor | ChatProcessor
    prompts: Mapping[str, str]
    caption_tokens: int
    shares: bool

    def __call__(self, seen: Sequence[Seen]) -> Batch:
        """One batch of prompts for each metric, or their common prefix and each rest."""
        captions = [CAPTION.format(caption=self.cut(each.caption)) for each in seen]
        texts = {
            metric: [f"{caption}\n\n{prompt}" for caption in captions]
            for metric, prompt in self.prompts.items()
        }
        if self.shares and isinstance(self.encoder, Encoder):
            return self._shared(seen, texts)
        whole = {
            metric: self.encoder.prompts(
                [((), text, each.image) for text, each in zip(asked, seen, strict=True)]
            )
            for metric, asked in texts.items()
        }
        return {PROMPTS: whole}

    def _shared(self, seen: Sequence[Seen], texts: Mapping[str, Sequence[str]]) -> Batch:
        ids = {
            metric: [self.encoder.prompt_ids(t) for t in asked] for metric, asked in texts.items()
        }
        ends = [common(prompts) for prompts in zip(*ids.values(), strict=True)]
        first = next(iter(ids.values()))
        pad = self.encoder.prompt_batch
        return {
            PREFIX: pad([prompt[:end] for prompt, end in zip(first, ends, strict=True)]),
            SUFFIXES: {
                metric: pad([prompt[end:] for prompt, end in zip(each, ends, strict=True)])
                for metric, each in ids.items()
            },
            PIXELS: torch.stack([self.processor.pixels(each.image) for each in seen]),  # type: ignore[union-attr]
        }

    def cut(self, caption: str) -> str:
        """A caption, up to the last token that is kept."""
        found = self.processor.tokenizer(
            caption, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        return (
            caption
            if len(found) <= self.caption_tokens
            else caption[: found[self.caption_tokens][0]]
        )


def common(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that prompts begin with alike, at least one of each left.

    >>> common([[1, 2, 3], [1, 2, 4, 5]]), common([[1, 2]])
    (2, 1)
    """
    columns = zip(*prompts, strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return min(shared, min(map(len, prompts)) - 1)
