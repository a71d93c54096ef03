"""Trainer options with their ranges, those of a recipe where they are narrower than Lightning's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from traceback import walk_tb
from typing import Any, Literal

import torch
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException

from presel_lightning.errors import UserError
from presel_lightning.run.ranges import (
    Count,
    Duration,
    Epochs,
    NaturalNumber,
    NonNegative,
    Part,
    PartOrNone,
    Steps,
)
from presel_lightning.run.ranks import keep_signals

REFUSED = {
    "fast_dev_run": "a fit of one step would count as done; trainer.max_steps shortens the fits, "
    "and `check --probe true` tries some steps",
    "barebones": "a fit writes checkpoints",
    "limit_predict_batches": "a signal needs every sample",
}
"""Options that do not go with a recipe, and why."""

EXAMINED = ("accumulate_grad_batches", "max_epochs", "max_steps")
"""Options that depend on the recipe or on each other."""

JOINED = ("MASTER_ADDR", "WORLD_SIZE", "SLURM_NTASKS", "LSB_JOBID", "PMI_SIZE", "KUBERNETES_PORT")
"""Variables of which one is set where a run has several machines."""

PROCESSES_PER_CORE = 4


class RecipeTrainer(Trainer):
    """Lightning's Trainer; the parser reads the ranges of its options here.

    Args:
        num_nodes: machines of the run.
        max_epochs: epochs of a fit; -1 for any number, up to `max_steps`.
        min_epochs: least number of epochs.
        max_steps: steps of a fit, over which the learning rate falls; -1 for those of `max_epochs`.
        min_steps: least number of steps.
        max_time: longest time of a fit. One that it ends is recorded as cut short, and continues at
            a start with another limit or none.
        limit_train_batches: passes of an epoch, a fraction or a count.
        limit_val_batches: passes of a validation, a fraction or a count.
        limit_test_batches: passes of a test, a fraction or a count.
        overfit_batches: train on so few passes again and again, a fraction or a count.
        val_check_interval: passes or time between validations.
        check_val_every_n_epoch: epochs between validations.
        log_every_n_steps: steps between entries of the log.
        gradient_clip_val: largest norm or value of a gradient; null for no limit.
        gradient_clip_algorithm: what is limited.
        reload_dataloaders_every_n_epochs: epochs between new loaders; 0 for the same ones.
        **options: further options of Lightning's Trainer.
    """

    def __init__(
        self,
        *,
        num_nodes: Count = 1,
        max_epochs: Epochs | None = None,
        min_epochs: NaturalNumber | None = None,
        max_steps: Steps = -1,
        min_steps: NaturalNumber | None = None,
        max_time: Duration | None = None,
        limit_train_batches: Part | None = None,
        limit_val_batches: PartOrNone | None = None,
        limit_test_batches: PartOrNone | None = None,
        overfit_batches: PartOrNone = 0.0,
        val_check_interval: Part | Duration | None = None,
        check_val_every_n_epoch: Count | None = 1,
        log_every_n_steps: NaturalNumber | None = None,
        gradient_clip_val: NonNegative | None = None,
        gradient_clip_algorithm: Literal["norm", "value"] | None = None,
        reload_dataloaders_every_n_epochs: NaturalNumber = 0,
        **options: Any,  # noqa: ANN401 - Lightning's own
    ) -> None:
        super().__init__(
            num_nodes=num_nodes,
            max_epochs=max_epochs,
            min_epochs=min_epochs,
            max_steps=max_steps,
            min_steps=min_steps,
            max_time=max_time,
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            overfit_batches=overfit_batches,
            val_check_interval=val_check_interval,
            check_val_every_n_epoch=check_val_every_n_epoch,
            log_every_n_steps=log_every_n_steps,
            gradient_clip_val=gradient_clip_val,
            gradient_clip_algorithm=gradient_clip_algorithm,
            reload_dataloaders_every_n_epochs=reload_dataloaders_every_n_epochs,
            **options,
        )
        keep_signals(self)


def examine_options(section: str, options: Mapping[str, Any]) -> None:
    """Check the options of a stage's Trainer that depend on each other or on the recipe.

    Args:
        section: key of the options, for the message.
        options: the Trainer's options.

    Raises:
        UserError: an option does not go with a recipe, or a fit would not end.
    """
    for name, reason in REFUSED.items():
        if not is_unset(name, options[name]):
            raise UserError(f"{section}.{name} is {options[name]}, but {reason}; leave it unset")
    if options["accumulate_grad_batches"] != 1:
        raise UserError(
            f"{section}.accumulate_grad_batches follows from data.batch_size (over all devices) "
            "and data.micro_batch_size (a pass of one device); set those"
        )
    if options["max_epochs"] in (None, -1) and options["max_steps"] == -1:
        raise UserError(
            f"{section}.max_epochs is {options['max_epochs'] or 'null'} and {section}.max_steps is "
            "-1: the learning rate falls over a known number of steps; set one of them to 1 or more"
        )


def is_unset(name: str, value: object) -> bool:
    """Return whether a refused option changes nothing: off, or every batch.

    No comparison with several values at once: true equals 1.0, and 0.0 equals false.
    """
    if name == "limit_predict_batches":
        return value is None or (isinstance(value, float) and value == 1.0)
    return not value


def examine_processes(options: Mapping[str, Any]) -> None:
    """Check that this machine can start the processes of a run.

    Raises:
        UserError: more processes than the CPU can run, or machines that nothing names.
    """
    devices, nodes = options["devices"], options["num_nodes"]
    if nodes > 1 and not any(name in os.environ for name in JOINED):
        raise UserError(
            f"trainer.num_nodes is {nodes}, and nothing names the other machines; start the command "
            "by torchrun or srun on each, or set trainer.num_nodes to 1"
        )
    on_cpu = options["accelerator"] == "cpu" or not torch.cuda.is_available()
    most = PROCESSES_PER_CORE * (os.cpu_count() or 1)
    count = int(devices) if str(devices).isdecimal() else 0
    if on_cpu and count > most:
        raise UserError(
            f"trainer.devices is {devices}; give 1 to {most} on the CPU of this machine"
        )


def refused_option(error: Exception, options: Mapping[str, Any]) -> UserError:
    """Return an error of Lightning as one line that names the option it is about."""
    line = str(error).strip().split("\n")[0].rstrip(".")
    if options.get("overfit_batches"):  # Lightning's name for what it sets is another option's
        line = line.replace("limit_train_batches", "overfit_batches")
    named = [name for name in options if name in line]
    first = min(named, key=lambda name: (line.index(name), -len(name)), default="")
    return UserError(f"trainer.{first}: {line}" if first else f"trainer: {line}")


def of_lightning(error: Exception) -> bool:
    """Return whether Lightning itself has raised an error, and none of what it calls."""
    raised = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    return bool(raised) and raised[-1].startswith("lightning.")


TRAINER_ERRORS = (TypeError, ValueError, MisconfigurationException)
"""What Lightning raises for options that it refuses."""
