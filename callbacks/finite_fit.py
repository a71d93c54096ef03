"""Stop a fit whose numbers are no longer numbers."""

from __future__ import annotations

from math import inf, isinf
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor

from presel_lightning.errors import Diverged
from presel_lightning.loading.samplers import ResumableLoader
from presel_lightning.run.ranks import rank_zero


class FiniteFit(Callback):
    """Stop a fit at a loss or weights that are NaN or infinite, on every process alike.

    Losses are checked every `trainer.log_every_n_steps` steps: in between, the first step of a
    non-finite one is kept on the device, without synchronisation. Weights are checked before a
    checkpoint or the model is written, so that neither ever holds others.

    Args:
        name: name of the fit, for the message.
        rate: key of its learning rate, for the message.
    """

    def __init__(self, name: str, rate: str = "model.lr") -> None:
        self.name, self.rate = name, rate
        self._step = 0
        self._rates: dict[int, float] = {}
        self._first = torch.tensor(inf)

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
    ) -> None:
        """Keep the number of the step, from 1, and its learning rate."""
        self._step = trainer.global_step + 1
        self._rates[self._step] = max(
            group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups
        )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Note a loss that is not finite, and stop at the next step that is logged.

        Raises:
            Diverged: a loss since the last check was not finite.
        """
        loss = outputs["loss"].detach()
        first = self._first.to(loss.device)
        self._first = torch.where(loss.isfinite(), first, first.clamp(max=self._step))
        done = trainer.global_step == self._step  # after the last pass of the step
        every = getattr(trainer, "log_every_n_steps", 1)
        if done and self._step % max(1, every) == 0:
            self.require_finite_losses(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let no checkpoint be written of weights that are not finite.

        Raises:
            Diverged: a loss or a weight is not finite.
        """
        self.require_finite(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let no model be written of weights that are not finite.

        Raises:
            Diverged: a loss or a weight is not finite.
        """
        self.require_finite(trainer, pl_module)

    def require_finite(self, trainer: Trainer, module: LightningModule) -> None:
        """Check the losses so far, and the trained weights."""
        self.require_finite_losses(trainer)
        wrong = non_finite(module).to(trainer.strategy.root_device)
        if float(trainer.strategy.reduce(wrong, reduce_op="sum")):
            self.stop(trainer, trainer.global_step, "the weights are not finite after")

    def require_finite_losses(self, trainer: Trainer) -> None:
        """Check the losses since the last check, of all processes."""
        first = float(trainer.strategy.reduce(self._first, reduce_op="min"))
        if not isinf(first):
            self.stop(trainer, int(first), "the loss is NaN or infinite at")
        self._rates = {self._step: self._rates[self._step]} if self._rates else {}

    def stop(self, trainer: Trainer, step: int, what: str) -> None:
        """End the fit.

        Raises:
            Diverged: always; it names the step, its tasks and learning rate.
        """
        facts = [f"tasks {', '.join(tasks)}"] if (tasks := tasks_of(trainer, step)) else []
        facts += [f"learning rate {self._rates[step]:.3g}"] if step in self._rates else []
        detail = f" ({'; '.join(facts)})" if facts else ""
        error = Diverged(
            f"fit of {self.name}: {what} step {step}{detail}: lower {self.rate}, compute in "
            "trainer.precision bf16-mixed or 32-true, or look at these samples; no checkpoint or "
            "model was written since, and the last good checkpoint is kept"
        )
        error.reported = not rank_zero()
        raise error


def non_finite(module: LightningModule) -> Tensor:
    """Return how many of the trained tensors on this process hold NaN or infinite numbers."""
    trained = (p.detach() for p in module.parameters() if p.requires_grad)
    local = (p.to_local() if isinstance(p, DTensor) else p for p in trained)
    wrong = [~p.isfinite().all() for p in local]
    return torch.stack(wrong).float().sum() if wrong else torch.zeros(())


def tasks_of(trainer: Trainer, step: int) -> list[str]:
    """Return the tasks of a step's global batch; none where the loader does not know them."""
    loader = trainer.train_dataloader
    if not isinstance(loader, ResumableLoader):
        return []
    steps = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
    epoch, number = divmod(step - 1, max(1, steps))
    return loader.tasks(epoch, number)
