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
        if not isinstance(pl_module, FineTune | TwoTower):
            raise TypeError(f"SaveModel saves a FineTune module, not {type(pl_module).__name__}")
        if trainer.is_global_zero:
            trained = [part for part in pl_module.parameters() if part.requires_grad]
            size = sum(part.numel() * part.element_size() for part in trained)
            with replacing_folder(self.folder, size) as folder:
                pl_module.save(folder)
        elif isinstance(pl_module, FineTune) and is_sharded(pl_module.model):
            pl_module.save(self.folder)
