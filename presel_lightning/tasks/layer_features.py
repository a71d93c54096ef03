"""Activations of attention at several layers, averaged over image and text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from presel_lightning.errors import UserError
from presel_lightning.models.forward import hidden_states, model_inputs
from presel_lightning.tasks.reader import Reader, without_place

Batch = dict[str, Any]


class LayerActivations(Reader):
    """The columns of the signal `layer_features`, from one batch of `WholeSet`."""

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the concatenated means of each sample of a block."""
        shown = batch["input_ids"] == self.model.config.image_token_id
        mask = batch["attention_mask"].bool()
        outputs = self.attention(batch)  # L of (B, T, D)
        parts = [
            mean_over(states, chosen) for chosen in (shown, mask & ~shown) for states in outputs
        ]
        features = torch.cat(parts, dim=1) / (2 * len(outputs)) ** 0.5  # (B, 2 L D)
        finite = features.isfinite().all(dim=1)
        return {"features": features.half(), "finite": finite.to(torch.uint8)}

    def attention(self, batch: Batch) -> list[Tensor]:
        """Outputs (B, T, D) of self-attention, projected, at the layers that are read.

        Raises:
            UserError: the decoder has no layers that are known.
        """
        found: list[Tensor] = []
        hooks = [
            projection.register_forward_hook(lambda _, __, output: found.append(output))
            for projection in self.projections()
        ]
        try:
            hidden_states(self.model, model_inputs(self.model, without_place(batch)))
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def projections(self) -> list[nn.Module]:
        """The output projections of self-attention at the layers that are read."""
        layers = getattr(self.model.get_decoder(), "layers", None)
        try:
            return [layers[i].self_attn.o_proj for i in layers_read(len(layers))]  # type: ignore[index,arg-type]
        except (AttributeError, TypeError):
            kind = type(self.model).__name__
            raise UserError(
                f"the language model of {kind} has no layers with `self_attn.o_proj`; signal "
                "`layer_features` cannot be made of it"
            ) from None


def layers_read(n: int) -> list[int]:
    """Five layers at equal distances, as 3, 7, 11, 15, 19 of 24; fewer in a shallow model.

    >>> layers_read(24), layers_read(3)
    ([3, 7, 11, 15, 19], [0, 1])
    """
    return sorted({max(0, (number * n) // 6 - 1) for number in range(1, 6)})


def mean_over(states: Tensor, chosen: Tensor) -> Tensor:
    """Average states (B, T, D) over tokens (B, T), by tanh and normalized, (B, D) float32."""
    weight = chosen.float()[..., None]
    mean = (states.float() * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    return normalize(mean.tanh(), dim=1)
