"""Training checkpoints at the boundaries of optimizer steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from presel_lightning.errors import Diverged, UserError
from presel_lightning.run import interruption
from presel_lightning.run.checkpoints import CheckpointFile, settle
from presel_lightning.run.files import bytes_in, hidden, remove
from presel_lightning.run.ranks import asked_to_stop, barrier, broadcast, rank_zero
from presel_lightning.run.storage import storage_error


class StepCheckpoint(Checkpoint):
    """Keep the two newest checkpoints of a fit, and stop it with one where a signal asks for that.

    Each is written under a hidden name beside its place, by all processes where it is sharded, and
    gets its name, `step=N.ckpt`, when it is whole and on the disk.

    After a resume, Lightning's `ModelCheckpoint` saves again after the first micro-batch of a step;
    a fit resumed from that checkpoint would not match its batches.

    Args:
        every_n_train_steps: optimizer steps between two checkpoints; 0 for none.

    Attributes:
        dirpath: folder of the checkpoints; set it before the fit.

    Raises:
        UserError: the number of steps is negative.
    """

    def __init__(self, every_n_train_steps: int = 100) -> None:
        if every_n_train_steps < 0:
            raise UserError(
                f"checkpoint_every is {every_n_train_steps}; give a number of steps, or 0 for none"
            )
        self.every_n_train_steps = every_n_train_steps
        self.dirpath = ""
        self._saved_at = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have files written beside their place, unless a config names another way."""
        writer = trainer.strategy.checkpoint_io
        # an asynchronous one is not at its end when the file is to get its name
        if type(writer) is TorchCheckpointIO or isinstance(writer, AsyncCheckpointIO):
            trainer.strategy.checkpoint_io = CheckpointFile()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on a signal waits for the end of a step."""
        interruption.hold()
        _count_epoch(trainer.fit_loop)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first process has saved the model: a signal waits no longer."""
        if stop := asked_to_stop():
            _leave(trainer, stop)
        interruption.release()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Nor does it where the fit has failed."""
        interruption.release()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save after the last micro-batch of a step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step, every = trainer.global_step, self.every_n_train_steps
        due = every > 0 and step > 0 and step % every == 0
        stop = asked_to_stop()
        ends = stop or trainer.should_stop  # by a time limit, for one; the fit may go on later
        if (due or ends) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.save(trainer)
        if stop:
            _leave(trainer, stop)

    def save(self, trainer: Trainer) -> None:
        """Save now, on every process, unless this step is saved.

        Raises:
            Diverged: a loss or a weight is not finite.
            StorageError: the folder is full or cannot be written.
        """
        if self._saved_at == trainer.global_step:
            return
        path = Path(self.dirpath) / f"step={trainer.global_step}.ckpt"
        part = hidden(path, "part")
        failure: Exception | None = None
        try:
            trainer.save_checkpoint(part)
        except Diverged:  # raised on every process
            raise
        except Exception as error:
            if not rank_zero():
                raise
            failure = error
            trainer.strategy.barrier()  # where the others wait
        broadcast(lambda: _finish(part, path, failure))
        self._saved_at = trainer.global_step


def _leave(trainer: Trainer, stop: int) -> NoReturn:
    """End all processes; one that ended before the first is ready would look like a crash."""
    for logger in trainer.loggers:
        logger.finalize("failed")  # Lightning's word for a fit that ended early
    barrier()
    interruption.leave(stop)


def _count_epoch(loop: Any) -> None:  # noqa: ANN401 - Lightning's loop of a fit
    """Have the epoch counted that begins where a fit continues from the last step of one.

    Lightning 2.6 takes it for the one that was under way; a checkpoint of the continued fit then has
    an epoch too few, and a fit that continues from that trains an epoch too many.
    """
    epochs = loop.epoch_progress.current
    if loop.restarted_mid_epoch and epochs.ready == epochs.processed:
        loop.reset_restart_stage()


def _finish(part: Path, path: Path, failure: Exception | None) -> None:
    """Name a checkpoint that is written; leave nothing of one that is not."""
    try:
        if failure is not None:
            raise failure
        settle(part, path)
    except Exception as error:
        needed = bytes_in(part)
        remove(part)
        if (fault := storage_error(error, path, needed)) is None:
            raise
        raise fault from error
