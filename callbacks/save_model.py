"""Write the tuned model as soon as it is trained, before anything else may fail."""

from __future__ import annotations

from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from presel_lightning.models.parallel import is_sharded
from presel_lightning.run.files import replacing_folder
from presel_lightning.tasks.finetune import FineTune


class SaveModel(Callback):
    """Write adapter or weights, tokenizer and processor at the end of the training.

    Args:
        folder: takes the model's place at once when it is complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write on the first process; the others help where the model is cut over them."""
        if not isinstance(pl_module, FineTune):
            raise TypeError(f"SaveModel saves a FineTune module, not {type(pl_module).__name__}")
        if trainer.is_global_zero:
            with replacing_folder(self.folder) as folder:
                pl_module.save(folder)
        elif is_sharded(pl_module.model):
            pl_module.save(self.folder)
