"""A model cut over devices (FSDP2), and put together again to be written."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from presel_lightning.models.llava import unwrapped


def shard_model(model: nn.Module, mesh: DeviceMesh) -> None:
    """Cut a model's parameters over the devices of a mesh, decoder layer by decoder layer.

    Only the layer that is being computed is whole on a device. Backbone and head are cut apart,
    as the head is called alone, at answer positions. All parameters must be of one dtype.

    Args:
        model: image-text model, adapters in place.
        mesh: one-dimensional mesh of the data-parallel devices.
    """
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(unwrapped(model).model, mesh=mesh)
    fully_shard(unwrapped(model).get_output_embeddings(), mesh=mesh)


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
    return model is not None and isinstance(unwrapped(model).model, FSDPModule)


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter whole, on the first process; all processes must call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    return state
