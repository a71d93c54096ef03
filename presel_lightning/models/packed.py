"""Which models read packed rows: every sequence of a row as if it were alone."""

from __future__ import annotations

from typing import Any

from presel_lightning.errors import UserError

SAMPLE = "sample"
"""Entry of a packed batch: (R, C) number of the sample that each token is of, -1 for padding."""

PLAIN = frozenset({"llava", "llava_onevision", "internvl", "smolvlm"})
"""Model types whose positions count tokens, and whose layers take them from `position_ids`."""

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
    if config.model_type not in PLAIN:
        return f"a model of type {config.model_type} is not known to keep packed sequences apart"
    # a config that was not loaded with weights has none: transformers then chooses sdpa
    attention = getattr(text, "_attn_implementation", None) or MASKED[0]
    if attention not in MASKED:
        return f"its attention is {attention}, and only {' and '.join(MASKED)} are tested with it"
    other = sorted(set(getattr(text, "layer_types", None) or ()) - LAYERS)
    if other:
        return f"its {other[0]} layers carry a state from one sequence to the next"
    return None


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
