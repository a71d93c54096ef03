"""Strategies that cut a model over devices, as this package needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor

from presel_lightning.errors import UserError
from presel_lightning.run.ranges import NaturalNumber

PREFIX = "deepspeed_stage_"
STAGES = ("1", "2", "2_offload", "3", "3_offload")
"""What may follow the prefix, as in Lightning."""

STARTED_BY_TRAINER = ("spawn", "fork", "notebook")
"""Parts of the names of Lightning's strategies that start processes for one call of the Trainer."""


class FSDP2(ModelParallelStrategy):
    """Parameters cut over all devices, each of which has data of its own."""

    def setup_environment(self) -> None:
        """Take every device for data: Lightning's own default cuts tensors inside a node."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()


class DeepSpeed(DeepSpeedStrategy):
    """ZeRO as LLaVA was trained with it: optimiser (1), gradients (2), weights (3) cut over devices.

    Three things differ from Lightning's own. Weights are read whole by every process and cut when
    the engine starts, as transformers reads no checkpoint into weights that are cut already. A step
    of several passes is averaged over them once: Lightning divides the loss by their number, and
    so would the engine again. And it works on a CPU where DeepSpeed does (`DS_ACCELERATOR=cpu`).

    Args:
        stage: 1, 2 or 3.
        keep_below: parameters of fewer elements stay whole on every device in stage 3.
        **options: those of Lightning's `DeepSpeedStrategy`.

    Raises:
        UserError: DeepSpeed is not installed.
    """

    def __init__(
        self,
        stage: int = 2,
        keep_below: NaturalNumber = 100_000,
        **options: Any,  # noqa: ANN401 - Lightning's own
    ) -> None:
        require_deepspeed()
        # frozen weights are in the pre-instruction checkpoint; the size of a batch is ours to count
        given = {"exclude_frozen_parameters": True, "logging_batch_size_per_gpu": 1, **options}
        super().__init__(stage=stage, **given)
        if stage == 3 and isinstance(self.config, dict):
            zero = self.config.setdefault("zero_optimization", {})
            zero.setdefault("stage3_param_persistence_threshold", keep_below)

    def setup_environment(self) -> None:
        """Join the processes, on GPUs or on what DeepSpeed is set to use."""
        from deepspeed.accelerator import get_accelerator

        here, wanted = get_accelerator().device_name(), self.root_device_type()
        if here != wanted:
            raise UserError(
                f"trainer.accelerator is {wanted}, and DeepSpeed works on {here}: use its GPUs, or "
                "another trainer.strategy (ddp, fsdp2)"
            )
        if wanted == "cuda":
            super().setup_environment()
        else:  # past the check for GPUs; the engine asks for the device's number
            self.parallel_devices = [torch.device(wanted, 0)] * self.num_processes
            super(DeepSpeedStrategy, self).setup_environment()

    def setup_distributed(self) -> None:
        """Join the group; only GPUs have a number."""
        if self.root_device_type() == "cuda":
            super().setup_distributed()
        else:
            self.set_world_ranks()
            self._init_deepspeed_distributed()

    def root_device_type(self) -> str:
        """Kind of the devices: `cuda` or `cpu`."""
        return (self.parallel_devices or [self.root_device])[0].type

    @contextmanager
    def model_sharded_context(self) -> Iterator[None]:
        """Read weights whole."""
        self._init_config_if_needed()
        yield

    def backward(self, closure_loss: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Gradients of a loss that has been divided by the number of passes already."""
        return super().backward(closure_loss, *args, scale_wrt_gas=False, **kwargs)


def require_deepspeed() -> None:
    """See that DeepSpeed can be imported.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("deepspeed") is None:
        raise UserError(
            "trainer.strategy needs DeepSpeed: pip install 'presel-lightning[deepspeed]', or set "
            "trainer.strategy to fsdp2, which needs nothing more"
        )


def our_strategy(strategy: Any) -> Any:  # noqa: ANN401 - Lightning's union
    """The strategy that a name stands for, where this package has its own; others as they are.

    Raises:
        UserError: DeepSpeed by another name or class than ours, or not installed.
    """
    if strategy == "fsdp2":
        return FSDP2(save_distributed_checkpoint=False)
    if isinstance(strategy, DeepSpeedStrategy) and not isinstance(strategy, DeepSpeed):
        raise UserError(
            "trainer.strategy: give presel_lightning.strategies.DeepSpeed, not Lightning's own class"
        )
    if not (isinstance(strategy, str) and strategy.startswith("deepspeed")):
        return strategy
    kind = strategy.removeprefix(PREFIX)
    if kind not in STAGES:
        known = ", ".join(PREFIX + stage for stage in STAGES)
        raise UserError(f"trainer.strategy {strategy!r} is unknown; of DeepSpeed there is {known}")
    stage = int(kind[0])
    offload = kind.endswith("_offload")
    return DeepSpeed(stage, offload_optimizer=offload, offload_parameters=offload and stage == 3)


def examine_launcher(stage: str, trainer: Any) -> None:  # noqa: ANN401 - a namespace
    """See that a stage's processes are those that the command was started with.

    Each process runs the whole recipe, so that all of them agree on what is next. `ddp_spawn`,
    `ddp_fork` and `ddp_notebook` start processes for one call of the Trainer alone: a spawned one
    cannot be handed the recipe's loaders, and what a forked one knows of its fit (steps, scores)
    ends with it.

    Args:
        stage: of the recipe, for the message.
        trainer: its Trainer's options.

    Raises:
        UserError: the strategy starts its processes so.
    """
    strategy = trainer.strategy
    name = strategy if isinstance(strategy, str) else getattr(strategy, "class_path", "")
    options = getattr(strategy, "init_args", None) or {}
    method = options.get("start_method", "popen")
    if method != "popen" or any(f"_{kind}" in str(name) for kind in STARTED_BY_TRAINER):
        how = f" (start_method {method})" if method != "popen" else ""
        raise UserError(
            f"stage {stage}: trainer.strategy {name}{how} starts processes for each fit alone, "
            "which the rest of the run has no part in; set trainer.strategy to ddp, which starts "
            "as many for the whole run"
        )


def examine_strategy(stage: str, trainer: Any, model: Any) -> None:  # noqa: ANN401 - namespaces
    """See, before anything is computed, that a fit can be done under DeepSpeed if it is to be.

    DeepSpeed keeps gradients to itself (`.grad` is None in stages 2 and 3), so what is scaled
    after the backward pass would silently stay as it is.

    Args:
        stage: of the recipe, for the message.
        trainer: its Trainer's options.
        model: its module's options.

    Raises:
        UserError: DeepSpeed is not installed, or does not go with the module's options.
    """
    strategy = trainer.strategy
    name = strategy if isinstance(strategy, str) else getattr(strategy, "class_path", "")
    if "deepspeed" not in str(name).lower():
        return
    require_deepspeed()
    if model.loss_reduction != "per_device":
        raise UserError(
            f"stage {stage}: model.loss_reduction {model.loss_reduction} scales gradients, which "
            "DeepSpeed does not hand out; set model.loss_reduction to per_device, or "
            "trainer.strategy to ddp or fsdp2"
        )
    if model.quantization is not None:
        raise UserError(
            f"stage {stage}: DeepSpeed cannot shard 4-bit weights; set trainer.strategy to "
            "ddp, or model.quantization to null"
        )


def is_cutting(strategy: Any) -> bool:  # noqa: ANN401 - Lightning's union
    """Whether a strategy cuts the model over devices."""
    cutting = (ModelParallelStrategy, FSDPStrategy, DeepSpeedStrategy)
    name = strategy if isinstance(strategy, str) else ""
    return isinstance(strategy, cutting) or name.startswith(("fsdp", "deepspeed"))
