"""Hidden states of whole conversations, reduced to what selectors read of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from presel_lightning.errors import UserError
from presel_lightning.functional.spectral import last_states, spectrum
from presel_lightning.models.forward import hidden_states, model_inputs
from presel_lightning.tasks.reader import Reader, without_place

Batch = dict[str, Any]


class HiddenSpectra(Reader):
    """The columns of the signal `hidden_states`, from one batch of `WholeSet`."""

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute spectrum and last state of each sample of a block."""
        states, mask = self.last_layer(batch), batch["attention_mask"].bool()
        entropy, concentration = spectrum(states, mask)
        return {
            "entropy": entropy,
            "concentration": concentration,
            "last": last_states(states, mask).float(),
            "n_tokens": mask.sum(dim=1).int(),
        }

    def last_layer(self, batch: Batch) -> Tensor:
        """Output (B, L, D) of the last decoder layer, before the final norm.

        Raises:
            UserError: the decoder has no final norm that is known.
        """
        norm = getattr(self.model.get_decoder(), "norm", None)
        if norm is None:
            kind = type(self.model).__name__
            raise UserError(
                f"the language model of {kind} has no final `norm`, whose input is to be read; "
                "signal `hidden_states` cannot be made of it"
            )
        found: list[Tensor] = []
        hook = norm.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
        try:
            hidden_states(self.model, model_inputs(self.model, without_place(batch)))
        finally:
            hook.remove()
        return found[-1]
