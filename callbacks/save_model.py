"""Write the tuned model as soon as it is trained, before anything else may fail."""

from __future__ import annotations

from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from presel_lightning.store import replacing_folder


class SaveModel(Callback):
    """Write adapter or weights, tokenizer and processor at the end of the training.

    Args:
        folder: takes the model's place at once when it is complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write on the first process."""
        if trainer.is_global_zero:
            with replacing_folder(self.folder) as folder:
                pl_module.save(folder)  # type: ignore[operator]
