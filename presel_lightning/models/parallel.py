"""A model cut over devices (FSDP2, ZeRO-3), and put together again to be written."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from presel_lightning.models.llava import unwrapped
from presel_lightning.run.ranks import rank_zero


def shard_model(model: nn.Module, mesh: DeviceMesh) -> None:
    """Cut a model's parameters over the devices of a mesh, decoder layer by decoder layer.

    Only the layer that is being computed is whole on a device. Backbone and head are cut apart,
    as the head is called alone, at answer positions; where head and input embeddings are one
    tensor, they are cut as one and stay so. All parameters must be of one dtype.

    Args:
        model: image-text model, adapters in place.
        mesh: one-dimensional mesh of the data-parallel devices.
    """
    inner = unwrapped(model)
    words, head = inner.get_input_embeddings(), inner.get_output_embeddings()
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard([words, head] if words.weight is head.weight else head, mesh=mesh)
    fully_shard(inner.model, mesh=mesh)


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of the language model: its longest list of modules."""
    lists: list[list[nn.Module]] = [
        list(module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and "language_model" in name
    ]
    return max(lists, key=len, default=[])


def is_sharded(model: nn.Module | None) -> bool:
    """Whether every process must take part in each forward pass."""
    if model is None:
        return False
    return isinstance(unwrapped(model).model, FSDPModule) or is_zero3(model)


def is_zero3(model: nn.Module) -> bool:
    """Whether DeepSpeed holds the parameters, each process a part of every one."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter whole, once, on the first process; all processes must call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: Any = (
        _gathered(model) if is_zero3(model) else get_model_state_dict(model, options=options)
    )
    once = {name for name, _ in model.named_parameters()}
    every = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {name: value for name, value in state.items() if name not in every - once}


def _gathered(model: nn.Module) -> dict[str, Tensor]:
    """Parameters of a model that DeepSpeed holds, put together one by one."""
    from deepspeed.runtime.zero import GatheredParameters

    state = dict(model.state_dict()) if rank_zero() else {}  # buffers are whole
    for name, parameter in model.named_parameters():
        with GatheredParameters([parameter]):
            if rank_zero():
                state[name] = parameter.detach().cpu().clone()
    return state
