"""Save the tuned model right after training."""

from __future__ import annotations

from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from presel_lightning.models.parallel import is_sharded
from presel_lightning.run.files import replacing_folder
from presel_lightning.tasks.finetune import FineTune
from presel_lightning.tasks.two_tower import TwoTower


class SaveModel(Callback):
    """Write adapter or weights, tokenizer and processor at the end of training; or a probe's heads.

    Args:
        folder: output folder, replaced atomically.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write on the first process; with sharded weights all processes take part."""
        save_tuned(trainer, pl_module, self.folder)


def save_tuned(trainer: Trainer, module: LightningModule, folder: Path) -> None:
    """Write the model as it is now to a folder, which is replaced; every process calls it."""
    if not isinstance(module, FineTune | TwoTower):
        raise TypeError(f"SaveModel saves a FineTune module, not {type(module).__name__}")
    if trainer.is_global_zero:
        trained = [part for part in module.parameters() if part.requires_grad]
        size = sum(part.numel() * part.element_size() for part in trained)
        with replacing_folder(folder, size) as temporary:
            module.save(temporary)
    elif isinstance(module, FineTune) and is_sharded(module.model):
        module.save(folder)
