"""Save what Adam has gathered of each adapter's gradients, beside the tuned model."""

from __future__ import annotations

from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from safetensors.torch import save_file

from presel_lightning.errors import UserError
from presel_lightning.run.files import replacing

MOMENTS = "moments.safetensors"
"""File beside the weights: `NAME.first` and `NAME.second` of each trained parameter."""


class SaveMoments(Callback):
    """Write both moments of Adam at the end of training, behind `SaveModel`.

    Args:
        folder: of the saved model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write on the first process."""
        save_moments(trainer, pl_module, self.folder)


def save_moments(trainer: Trainer, module: LightningModule, folder: Path) -> None:
    """Write the moments as they are now into the folder of a saved model, on the first process.

    Raises:
        UserError: the optimizer's state is cut over the processes.
    """
    if not trainer.is_global_zero:
        return
    state = trainer.optimizers[0].state
    found = {}
    for name, weight in module.named_parameters():
        if not weight.requires_grad:
            continue
        if weight not in state or state[weight]["exp_avg"].shape != weight.shape:
            raise UserError(
                "gradient_update is adam, and the strategy of stages.reference.trainer cuts the moments "
                "of Adam over the processes; set strategy: ddp there, or gradient_update: sgd"
            )
        found[f"{name}.first"] = state[weight]["exp_avg"].contiguous().cpu()
        found[f"{name}.second"] = state[weight]["exp_avg_sq"].contiguous().cpu()
    with replacing(folder / MOMENTS) as path:
        save_file(found, path)
