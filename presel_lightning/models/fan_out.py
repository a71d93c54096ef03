"""Several continuations of one prompt: the image and what they have in common is read once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from presel_lightning.models.vocabulary import without_added

Batch = dict[str, Any]
Tokens = tuple[int, ...]


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
    cache, seen = _read(model, prefix, pixels)
    stops = torch.tensor(sorted(ends), device=seen.device)
    found = {}
    for name, suffix in suffixes.items():
        ids, mask = suffix["input_ids"], torch.cat([seen, suffix["attention_mask"]], dim=1)
        said: list[Tensor] = []
        ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        while len(said) < max_new_tokens and not ended.all():
            ids = _next(model, cache, ids, mask).argmax(dim=-1, keepdim=True)  # (B, 1)
            said.append(ids)
            ended |= torch.isin(ids[:, 0], stops)
            mask = torch.cat([mask, mask.new_ones(len(ids), 1)], dim=1)
        found[name] = torch.cat(said, dim=1)
        cache.crop(-(cache.get_seq_length() - seen.shape[1]))
    return found


@torch.inference_mode()
def next_tokens(
    model: Any,  # noqa: ANN401 - transformers' own class
    prefix: Batch,
    pixels: Tensor,
    suffixes: Mapping[str, Batch],
    paths: Sequence[Tokens],
) -> dict[str, dict[Tokens, Tensor]]:
    """Log-probabilities (B, V) of what comes behind each suffix and each of some tokens.

    Args:
        model: image-text model for which `why_not_shared` has no reason.
        prefix: as `replies` takes it, and the next two.
        pixels: of the images.
        suffixes: by name.
        paths: tokens that a reply begins with; none is one of them.
    """
    cache, seen = _read(model, prefix, pixels)
    found: dict[str, dict[Tokens, Tensor]] = {}
    for name, suffix in suffixes.items():
        ids, mask = suffix["input_ids"], torch.cat([seen, suffix["attention_mask"]], dim=1)
        last = _next(model, cache, ids, mask)
        found[name] = {}
        for path in paths:
            if path:
                more = torch.tensor(path, device=ids.device).expand(len(ids), -1)  # (B, T)
                logits = _next(model, cache, more, torch.cat([mask, mask.new_ones(more.shape)], 1))
                cache.crop(-len(path))
            else:
                logits = last
            found[name][path] = logits.float().log_softmax(dim=-1)
        cache.crop(-(cache.get_seq_length() - seen.shape[1]))
    return found


@torch.inference_mode()
def next_tokens_whole(
    model: Any,  # noqa: ANN401 - transformers' own class
    inputs: Batch,
    paths: Sequence[Tokens],
) -> dict[Tokens, Tensor]:
    """The same behind whole prompts, padded on the left, each path from a pass of its own."""
    found = {}
    for path in paths:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        more = torch.tensor(path, dtype=ids.dtype, device=ids.device).expand(len(ids), -1)
        longer = {
            name: torch.cat([value, torch.zeros_like(more)], dim=1)  # kinds of tokens: text
            for name, value in inputs.items()
            if value.shape == ids.shape
        }
        longer["input_ids"] = torch.cat([ids, more], dim=1)
        longer["attention_mask"] = torch.cat([mask, mask.new_ones(more.shape)], dim=1)
        hidden = model.model(**{**inputs, **longer}, use_cache=False).last_hidden_state[:, -1]
        logits = without_added(model, model.get_output_embeddings()(hidden))
        found[path] = logits.float().log_softmax(dim=-1)
    return found


def _read(model: Any, prefix: Batch, pixels: Tensor) -> tuple[DynamicCache, Tensor]:  # noqa: ANN401
    """Keys and values of a prefix, and its mask."""
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
    return cache, seen


def _next(model: Any, cache: DynamicCache, ids: Tensor, mask: Tensor) -> Tensor:  # noqa: ANN401
    """Logits (B, V) behind tokens (B, T), which the cache then holds."""
    hidden = model.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=_positions(mask, mask.shape[1] - ids.shape[1]),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state[:, -1]
    return without_added(model, model.get_output_embeddings()(hidden))


def _positions(mask: Tensor, start: int) -> Tensor:
    """Positions from column `start` on: how many tokens stand before each."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)[:, start:]
