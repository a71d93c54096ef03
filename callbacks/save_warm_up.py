"""Save intermediate checkpoints of a fit, with the learning rate that led to each."""

from __future__ import annotations

import shutil
from math import ceil
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from presel_lightning.callbacks.save_model import save_tuned
from presel_lightning.callbacks.save_moments import save_moments
from presel_lightning.errors import UserError
from presel_lightning.run.files import replacing_folder, write_json

RATES = "warm_up.json"
"""File beside the weights: `rates`, the mean learning rate of each part of the fit."""


def warm_up_folder(model: Path, number: int) -> Path:
    """Folder of an earlier checkpoint of a saved model, counted from 1."""
    return model / "warm_up" / str(number)


def require_steps(steps: float, count: int) -> None:
    """Check that a fit of so many steps can be divided into parts.

    Raises:
        UserError: there are fewer steps than parts.
    """
    if steps < count:
        raise UserError(
            f"warmup_checkpoints is {count}, and the fit of the reference model has "
            f"{steps} steps: lower it, or raise stages.reference.trainer.max_epochs"
        )


class SaveWarmUp(Callback):
    """Divide a fit into equal parts, and keep the model at the end of each; list it after `SaveModel`.

    The last is the saved model itself. The others, and `warm_up.json` with the mean learning rates
    of the parts, go into its folder at the end; until then they lie beside the training checkpoints,
    so that a fit that was killed finds its own again. A fit that a time limit cuts short has fewer.

    Args:
        folder: of the saved model.
        count: parts of the fit.
        moments: whether the moments of Adam are kept beside each.

    Attributes:
        dirpath: folder of the training checkpoints; set it before the fit.
    """

    def __init__(self, folder: Path, count: int, *, moments: bool) -> None:
        self.folder, self.count, self.moments = folder, count, moments
        self.dirpath = ""
        self.rates: list[float] = []
        self._ends: list[int] = []
        self._total, self._steps = 0.0, 0  # of the part that is under way

    def state_dict(self) -> dict[str, Any]:
        """Return the rates so far, for the training checkpoint."""
        return {"rates": list(self.rates), "total": self._total, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the training checkpoint was written."""
        self.rates = list(state_dict["rates"])
        self._total, self._steps = state_dict["total"], state_dict["steps"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the last step of each part.

        Raises:
            UserError: there are fewer steps than parts.
        """
        steps = int(trainer.estimated_stepping_batches)
        require_steps(steps, self.count)
        self._ends = [ceil(steps * number / self.count) for number in range(1, self.count)]

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Count the rate of a step: the highest of all groups, which keep their proportions."""
        self._total += max(group["lr"] for group in optimizer.param_groups)
        self._steps += 1

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save at the end of a part, on every process."""
        if trainer.global_step not in self._ends or not self._steps:
            return
        folder = self.folder_until_end(self._ends.index(trainer.global_step) + 1)
        save_tuned(trainer, pl_module, folder)
        if self.moments:
            save_moments(trainer, pl_module, folder)
        self._end_part()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the checkpoints and the rates into the folder of the model, on the first process."""
        rates = list(self.rates)
        if self._steps:  # else a time limit has cut the fit at the end of a part
            rates.append(self._total / self._steps)
        if not trainer.is_global_zero:
            return
        for number in range(1, len(rates)):
            with replacing_folder(warm_up_folder(self.folder, number)) as folder:
                shutil.copytree(self.folder_until_end(number), folder, dirs_exist_ok=True)
        write_json(self.folder / RATES, {"rates": rates})

    def folder_until_end(self, number: int) -> Path:
        """Folder of a checkpoint until the fit ends."""
        return Path(self.dirpath) / f"warm_up-{number}"

    def _end_part(self) -> None:
        self.rates.append(self._total / self._steps)
        self._total, self._steps = 0.0, 0
