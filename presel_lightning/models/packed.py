"""Which models read packed rows: every sequence of a row as if it were alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from presel_lightning.errors import UserError

SAMPLE = "sample"
"""Entry of a packed batch: (R, C) number of the sample that each token is of, -1 for padding."""

PLAIN = frozenset({"llava", "llava_onevision", "internvl", "smolvlm"})
"""Model types whose positions count tokens, and whose layers take them from `position_ids`."""

GRIDS = frozenset({"qwen2_5_vl", "qwen3_vl"})
"""Model types whose positions follow time, rows and columns of an image (M-RoPE)."""

MASKED = ("sdpa", "eager")
"""Attention that transformers gives a block-diagonal mask wherever positions restart."""

LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of layers that such a mask isolates; a recurrent one carries its state on."""


def why_not_packed(config: Any) -> str | None:  # noqa: ANN401 - transformers has one class a model
    """Give the reason that a model cannot read packed rows; None if it can.

    Args:
        config: of the image-text model.
    """
    text = config.get_text_config()
    if config.model_type not in PLAIN | GRIDS:
        return f"a model of type {config.model_type} is not known to keep packed sequences apart"
    # a config that was not loaded with weights has none: transformers then chooses sdpa
    attention = getattr(text, "_attn_implementation", None) or MASKED[0]
    if attention not in MASKED:
        return f"its attention is {attention}, and only {' and '.join(MASKED)} are tested with it"
    other = sorted(set(getattr(text, "layer_types", None) or ()) - LAYERS)
    if other:
        return f"its {other[0]} layers carry a state from one sequence to the next"
    return None


def packed_positions(model: Any, inputs: dict[str, Tensor], samples: Tensor) -> Tensor:  # noqa: ANN401
    """Positions of packed rows, as the model counts them.

    Args:
        model: image-text model.
        inputs: of a packed batch, without labels.
        samples: (R, C) number of the sample of each token, -1 for padding.

    Returns:
        `position_ids` (R, C); for models of `GRIDS` (4, R, C): these, by which sequences are
        kept apart, and the positions of time, row and column, which are those of each sample alone.
    """
    plain = inputs["position_ids"]
    if model.config.model_type not in GRIDS:
        return plain
    grids = plain.repeat(3, 1, 1)  # of texts
    if "image_grid_thw" in inputs:
        row, column = (samples >= 0).nonzero(as_tuple=True)  # (T,) of each token
        sample, place = samples[row, column], plain[row, column]
        shape = int(sample.max()) + 1, int(place.max()) + 1

        def padded(values: Tensor) -> Tensor:
            alone = values.new_zeros(shape)
            alone[sample, place] = values[row, column]
            return alone

        found, _ = model.model.get_rope_index(
            input_ids=padded(inputs["input_ids"]),
            mm_token_type_ids=padded(inputs["mm_token_type_ids"]),
            image_grid_thw=inputs["image_grid_thw"],
            attention_mask=padded(torch.ones_like(plain)),
        )  # (3, B, L)
        grids[:, row, column] = found[:, sample, place].to(grids)
    return torch.cat([plain[None], grids])


def require_packable(config: Any, loss_reduction: str) -> None:  # noqa: ANN401
    """Refuse what packed rows would change.

    Args:
        config: of the image-text model.
        loss_reduction: of `FineTune`.

    Raises:
        UserError: the model reads sequences of a row as one, or the loss depends on what is packed
            together.
    """
    reason = why_not_packed(config)
    if reason is None and loss_reduction != "global":
        reason = (
            f"with model.loss_reduction {loss_reduction} the loss depends on what shares a pass"
        )
    if reason is not None:
        raise UserError(f"data.packing is not possible here: {reason}; set data.packing to false")
