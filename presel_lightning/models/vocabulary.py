r"""Rows of the vocabulary that were added to a language model take no probability.

.. math:: p(v) = \frac{e^{z_v}}{\sum_{u < V} e^{z_u}}, \qquad v < V

with :math:`V` the rows that the language model came with (32000 of the 32064 of a LLaVA-1.5 in
transformers format, which has `<image>` and padding among its rows; LLaVA itself has none of them).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

KEY = "language_model_vocab_size"
"""In the configuration of a model: the rows that its language model came with."""


def limit_vocabulary(model: Any, size: int) -> None:  # noqa: ANN401 - transformers' auto class
    """Write down in a model's configurations that rows from `size` on are not words.

    Losses read it (`without_added`), and so does generation, by any program that heeds
    `generation_config.json`.

    Args:
        model: image-text model.
        size: rows that the language model came with.
    """
    setattr(model.config, KEY, size)
    added = list(range(size, model.config.get_text_config().vocab_size))
    if added:
        known = model.generation_config.suppress_tokens or []
        model.generation_config.suppress_tokens = sorted({*known, *added})


def without_added(model: Any, logits: Tensor) -> Tensor:  # noqa: ANN401
    """Logits (T, V) of the language model's own words; all of them where no row was added.

    Args:
        model: image-text model.
        logits: (T, rows).
    """
    return logits[:, : getattr(model.config, KEY, None)]


def own_vocabulary(config: Any, tokenizer: Any) -> int:  # noqa: ANN401
    """Rows that the language model of a LLaVA came with.

    Where its configuration does not say, they are those before `<image>`, unless words follow.

    Args:
        config: of the LLaVA.
        tokenizer: of the LLaVA.
    """
    known: int | None = getattr(config, KEY, None)
    if known is not None:
        return known
    image, size = int(config.image_token_id), int(config.get_text_config().vocab_size)
    return size if words_follow(image, tokenizer) else image


def words_follow(image: int, tokenizer: Any) -> bool:  # noqa: ANN401
    """Whether `<image>`, by its id, stands amid the vocabulary rather than behind it."""
    words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    return any(token > image for token in tokenizer.convert_tokens_to_ids(list(words)))
