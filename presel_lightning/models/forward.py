"""Any model on any batch: what it is given, its hidden states, and the losses of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from presel_lightning.functional.token_loss import answer_positions, sample_losses
from presel_lightning.models.llava import unwrapped
from presel_lightning.models.packed import SAMPLE, packed_positions
from presel_lightning.models.vocabulary import without_added

Batch = dict[str, Any]

NOT_FOR_THE_MODEL = ("labels", "weight", "blank", SAMPLE)
"""Entries of a batch that say what to learn rather than what to read, or are not to be seen."""


def model_inputs(model: nn.Module, batch: Batch) -> Batch:
    """What a model reads of a batch, by its processor's own names; pixels in the model's dtype."""
    dtype = unwrapped(model).dtype
    return {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in batch.items()
        if name not in NOT_FOR_THE_MODEL
    }


def hidden_states(model: nn.Module, inputs: Batch) -> Tensor:
    """Last hidden states (B, L, D) of inputs from `model_inputs`."""
    states: Tensor = unwrapped(model).model(**inputs, use_cache=False).last_hidden_state
    return states


def answer_logits(model: nn.Module, hidden: Tensor, labels: Tensor) -> Tensor:
    """Logits (T, V) at the answer positions of hidden states (B, L, D).

    The language-model head is applied there only. V leaves out the rows added to the vocabulary.
    """
    inner = unwrapped(model)
    logits = inner.get_output_embeddings()(hidden[:, :-1][answer_positions(labels)])
    return without_added(inner, logits)


def answer_losses(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed answer loss (B,) and number of answer tokens (B,) of each sample of a batch.

    A batch may be packed (`loading.packing`). One without any image passes a black one (`blank`) by the vision tower and the projector:
    processes that share a model wait for each other there.
    """
    inputs, labels = model_inputs(model, batch), batch["labels"]
    if SAMPLE in batch:
        positions = packed_positions(unwrapped(model), inputs, batch[SAMPLE])
        inputs = {**inputs, "position_ids": positions}
    with dummy_image(model, batch.get("blank")):
        hidden = hidden_states(model, inputs)
    return sample_losses(answer_logits(model, hidden, labels), labels, batch.get(SAMPLE))


@contextmanager
def dummy_image(model: nn.Module, blank: Batch | None) -> Iterator[None]:
    """Have forward passes look at an image of which nothing is used; at none if it is None.

    No value changes, and what is trained on images gets a gradient of 0 instead of none. The image
    is read inside the model's own forward pass, where weights that are cut over devices are whole,
    and before the language model is entered, as the images of other batches are.
    """
    if blank is None:
        yield
        return
    inner = unwrapped(model)

    def look(module: nn.Module, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - torch's hook
        features = inner.model.get_image_features(**model_inputs(model, blank)).pooler_output
        nothing = sum(image[:0].sum() for image in features)
        return args, {**kwargs, "inputs_embeds": kwargs["inputs_embeds"] + nothing}

    hook = inner.get_decoder().register_forward_pre_hook(look, prepend=True, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
