"""First-layer states of the visual tokens that the text attends to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from presel_lightning.errors import UserError
from presel_lightning.models.forward import hidden_states, model_inputs
from presel_lightning.tasks.reader import Reader, without_place

Batch = dict[str, Any]
COVERED = 0.9
"""Part of the attention that the tokens hold."""


class _FirstLayerDone(Exception):
    """What is needed has been computed: the layers above are passed over."""


class AttendedTokens(Reader):
    """The columns of the signal `visual_tokens`, from one batch of `WholeSet`."""

    def configure_model(self) -> None:
        """Load the weights, and have attention return what it computes."""
        super().configure_model()
        self.model.set_attn_implementation("eager")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the mean state of each sample of a block."""
        shown = batch["input_ids"] == self.model.config.image_token_id
        text = batch["attention_mask"].bool() & ~shown
        attention, states = self.first_layer(batch)
        chosen = attended(attention.float().mean(dim=1), text, shown)  # (B, L)
        weight = chosen.float()[..., None]
        features = (states.float() * weight).sum(dim=1) / weight.sum(dim=1)  # (B, D)
        return {"features": features, "finite": features.isfinite().all(dim=1).to(torch.uint8)}

    def first_layer(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Attention (B, H, L, L) and output (B, L, D) of the first decoder layer.

        Raises:
            UserError: the decoder has no layers that are known.
        """
        layers = getattr(self.model.get_decoder(), "layers", None)
        if layers is None or not hasattr(layers[0], "self_attn"):
            raise UserError(
                f"the language model of {type(self.model).__name__} has no layers with `self_attn`; "
                "signal `visual_tokens` cannot be made of it"
            )
        found: dict[str, Tensor] = {}

        def attend(module: Any, inputs: Any, output: Any) -> None:  # noqa: ANN401 - torch's hook
            found["attention"] = output[1]

        def stop(module: Any, inputs: Any, output: Any) -> None:  # noqa: ANN401 - torch's hook
            found["states"] = output if isinstance(output, Tensor) else output[0]
            raise _FirstLayerDone

        hooks = [
            layers[0].self_attn.register_forward_hook(attend),
            layers[0].register_forward_hook(stop),
        ]
        try:
            hidden_states(self.model, model_inputs(self.model, without_place(batch)))
        except _FirstLayerDone:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return found["attention"], found["states"]


def attended(attention: Tensor, text: Tensor, shown: Tensor) -> Tensor:
    """Mark the fewest visual tokens that hold 90 % of the attention of the text to any of them.

    Args:
        attention: (B, L, L) from each token to each, averaged over heads.
        text: (B, L) bool, the tokens of the text.
        shown: (B, L) bool, the visual tokens.

    Returns:
        (B, L) bool.
    """
    mass = (attention * text[..., None]).sum(dim=1) * shown  # (B, L)
    order = mass.argsort(dim=1, descending=True, stable=True)
    sorted_mass = mass.gather(1, order)
    before = sorted_mass.cumsum(dim=1) - sorted_mass
    needed = before < COVERED * mass.sum(dim=1, keepdim=True)
    chosen = torch.zeros_like(shown).scatter(1, order, needed)
    return chosen & shown
