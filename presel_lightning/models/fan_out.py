"""Several continuations of one prompt: the image and what they have in common is read once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from presel_lightning.models.vocabulary import without_added

Batch = dict[str, Any]


@torch.inference_mode()
def replies(
    model: Any,  # noqa: ANN401 - transformers' own class
    prefix: Batch,
    pixels: Tensor,
    suffixes: Mapping[str, Batch],
    max_new_tokens: int,
    ends: Collection[int],
) -> dict[str, Tensor]:
    """Answer each suffix behind the same prefix greedily.

    The keys and values of the prefix are computed once, read by one suffix and its answer, and
    handed to the next. Rows are padded on the left, prefixes and suffixes alike: the mask leaves
    the padding out wherever it stands, and positions count what is left.

    Args:
        model: image-text model for which `why_not_shared` has no reason.
        prefix: tokens and mask (B, P), with the places of the images.
        pixels: of the images.
        suffixes: tokens and mask (B, S) by name; S of each its own.
        max_new_tokens: limit on an answer.
        ends: tokens that end an answer.

    Returns:
        Token ids (B, T) of the answers by name, T at most the limit; behind an end anything.
    """
    cache = DynamicCache(config=model.config.get_text_config())
    seen = prefix["attention_mask"]
    model.model(
        input_ids=prefix["input_ids"],
        attention_mask=seen,
        position_ids=_positions(seen, 0),
        pixel_values=pixels,
        past_key_values=cache,
        use_cache=True,
    )
    stops = torch.tensor(sorted(ends), device=seen.device)
    found = {}
    for name, suffix in suffixes.items():
        ids, mask = suffix["input_ids"], torch.cat([seen, suffix["attention_mask"]], dim=1)
        said: list[Tensor] = []
        ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        while len(said) < max_new_tokens and not ended.all():
            hidden = model.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=_positions(mask, mask.shape[1] - ids.shape[1]),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            logits = without_added(model, model.get_output_embeddings()(hidden))
            ids = logits.argmax(dim=-1, keepdim=True)  # (B, 1)
            said.append(ids)
            ended |= torch.isin(ids[:, 0], stops)
            mask = torch.cat([mask, mask.new_ones(len(ids), 1)], dim=1)
        found[name] = torch.cat(said, dim=1)
        cache.crop(-(cache.get_seq_length() - seen.shape[1]))
    return found


def _positions(mask: Tensor, start: int) -> Tensor:
    """Positions from column `start` on: how many tokens stand before each."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)[:, start:]
