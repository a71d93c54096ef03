"""Hidden states of an answer with and without its question; the image is encoded once."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache

Batch = dict[str, Any]

CAUSAL = frozenset({"llava"})
"""Model types that read strictly left to right at plain positions: what stands before the question
does not feel whether one follows."""


def why_not_shared(model: Any) -> str | None:  # noqa: ANN401 - transformers' auto class
    """What keeps a model from sharing the image between two continuations; None if nothing does."""
    config = model.config.get_text_config()
    if model.config.model_type not in CAUSAL:
        return f"a model of type {model.config.model_type} is not known to read left to right only"
    if not getattr(config, "is_causal", True):
        return "the model's attention is not causal"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(config, "sliding_window", None):
        return "some layers of the model use sliding-window attention"
    return None


def two_passes(model: Any, sides: list[Batch], image: Batch) -> list[Tensor]:  # noqa: ANN401
    """Hidden states (B, L_i, D) of each side, each from a pass of its own.

    Args:
        model: image-text model.
        sides: what each pass reads beside the image, tokens first.
        image: pixels, and the other inputs that describe their shape.
    """
    return [model.model(**side, **image, use_cache=False).last_hidden_state for side in sides]


def one_prefix(model: Any, sides: list[Batch], pixels: Tensor, prefix: int) -> list[Tensor]:  # noqa: ANN401
    """Hidden states (B, L_i - prefix, D) behind a prefix that is computed once.

    Keys and values of the prefix are kept, read by one continuation, and handed to the next.
    Rows are padded on the right, where nothing but padding looks: no mask is needed.
    """
    cache = DynamicCache(config=model.config.get_text_config())
    model.model(
        input_ids=sides[0]["input_ids"][:, :prefix],
        pixel_values=pixels,
        past_key_values=cache,
        use_cache=True,
    )
    hidden = []
    for side in sides:
        rest = side["input_ids"][:, prefix:]
        output = model.model(input_ids=rest, past_key_values=cache, use_cache=True)
        hidden.append(output.last_hidden_state)
        cache.crop(-rest.shape[1])
    return hidden
