"""Gradient of each sample's loss with respect to the adapters, reduced to a sketch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from presel_lightning.errors import UserError
from presel_lightning.functional.adam_update import adam_update
from presel_lightning.functional.sketch import Sketch, draw_sketch, project
from presel_lightning.models.adapted import adapter_layers, load_adapted
from presel_lightning.models.forward import answer_losses
from presel_lightning.tasks.finetune import FineTune
from presel_lightning.tasks.reader import Reader, without_place

Batch = dict[str, Any]

LAYER = re.compile(r"^.*?\.layers?\.\d+\.")


class SampleGradients(Reader):
    r"""The columns of the signal `gradients`, from one batch of `WholeSet`.

    Of the mean loss of a sample's answer tokens, for all samples of a block by one backward pass:
    with x the inputs of an adapter's matrix at all tokens of sample i, and d the gradients of its
    outputs, the sample's gradient is :math:`d_i^T x_i`. It is projected at once, so that no more than
    one matrix's gradients are held. Columns are divided among the decoder layers.

    Args:
        tuned: the model, before any weight is loaded.
        width: numbers that a gradient is reduced to.
        seed: of the projection.
        moments: file of the moments of Adam by parameter; each gradient is then the step that Adam would
            make on it. None for the gradient itself.
    """

    def __init__(self, tuned: FineTune, width: int, seed: int, moments: Path | None = None) -> None:
        super().__init__(tuned)
        self.width, self.seed, self.moments = width, seed, moments
        self.known: dict[str, Tensor] = {}
        self.sketches: dict[str, tuple[slice, Sketch]] = {}

    def configure_model(self) -> None:
        """Load the weights with the adapter beside them, on every rank."""
        if self.tuned.model is not None:
            return
        tuned = self.tuned
        tuned.model = load_adapted(
            tuned.origin, tuned.lora, tuned.dtype_name, tuned.quantization, self.seed
        )

    def updated(self, name: str, gradients: Tensor) -> Tensor:
        """Turn the gradients (B, o, i) of a matrix into the steps of Adam, where its moments are given.

        Raises:
            UserError: the file has no moments of the matrix.
        """
        if self.moments is None:
            return gradients
        if not self.known:
            self.known = load_file(self.moments, device=str(self.device))
        own = [f"model.{name}.weight.{which}" for which in ("first", "second")]
        if own[0] not in self.known:
            raise UserError(
                "gradient_update is adam, which needs a reference model that is tuned by adapters; set "
                "model.tune to lora, or gradient_update to sgd"
            )
        first, second = (self.known[each] for each in own)
        return adam_update(gradients, first, second, self.tuned.betas)

    def edges(self) -> np.ndarray:
        """First column of each layer, and the width, (L + 1,).

        Raises:
            UserError: there are fewer columns than layers.
        """
        layers = self.layers()
        if self.width < len(layers):
            raise UserError(
                f"gradient_width is {self.width}, and the adapters are in {len(layers)} layers, each "
                "of which needs a column; raise it"
            )
        return np.linspace(0, self.width, len(layers) + 1).astype(np.int64)

    def layers(self) -> list[str]:
        """Decoder layers that have adapters, in order."""
        return list(dict.fromkeys(map(layer_of, adapter_layers(self.tuned.model))))

    def sketch_of(self, name: str, module: nn.Module) -> tuple[slice, Sketch]:
        """Columns and projection of a matrix; drawn once."""
        if name not in self.sketches:
            edges, place = self.edges(), self.layers().index(layer_of(name))
            columns = slice(int(edges[place]), int(edges[place + 1]))
            size, seed = int(module.weight.numel()), [self.seed, crc32(name.encode())]  # type: ignore[operator]
            drawn = draw_sketch(size, columns.stop - columns.start, seed)
            self.sketches[name] = columns, drawn.to(self.device)
        return self.sketches[name]

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute loss and sketched gradient of each sample of a block."""
        with torch.inference_mode(False), torch.enable_grad():
            given = {
                name: value.clone()  # a tensor of inference mode has no place in a backward pass
                for name, value in without_place(batch).items()
                if isinstance(value, Tensor)
            }
            return self.gradients(given)

    def gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the columns of a batch."""
        rows = len(batch["labels"])
        found = torch.zeros(rows, self.width, device=self.device)
        squares = torch.zeros(rows, device=self.device)

        def take(name: str, module: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
            """Add the gradients of one matrix, from its inputs and those of its outputs."""
            each = torch.einsum("blo,bli->boi", outputs.float(), inputs.float())
            each = self.updated(name, each).flatten(1)
            squares.add_(each.square().sum(dim=1))
            columns, sketch = self.sketch_of(name, module)
            found[:, columns] += project(each, sketch)

        with watched(self.tuned.model, self.model.get_decoder(), take):
            sums, counts = answer_losses(self.tuned.model, batch)
            losses = sums / counts
            losses.sum().backward()
        length = found.norm(dim=1)
        direction = torch.where(length[:, None] > 0, found / length[:, None], 0.0)
        return {
            "direction": direction.half(),
            "length": torch.where(counts > 0, length, torch.nan),
            "norm": squares.sqrt(),
            "loss": losses.detach().float(),
        }


def layer_of(name: str) -> str:
    """Name of the decoder layer that a module lies in; the empty name of one outside of all."""
    found = LAYER.match(name)
    return found.group() if found else ""


@contextmanager
def watched(
    model: nn.Module,
    decoder: nn.Module,
    take: Callable[[str, nn.Module, Tensor, Tensor], None],
) -> Iterator[None]:
    """Call `take(name, module, inputs, gradients of outputs)` in the backward pass of each adapter.

    The model is frozen: gradients flow from the token embeddings on, and none is kept.
    """

    def embeddings(module: nn.Module, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - torch's hook
        given = kwargs["inputs_embeds"].detach().requires_grad_()
        return args, {**kwargs, "inputs_embeds": given}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            inputs = args[0].detach()
            output.register_hook(lambda gradient: take(name, module, inputs, gradient))

        return hook

    hooks = [decoder.register_forward_pre_hook(embeddings, prepend=True, with_kwargs=True)]
    for name, module in adapter_layers(model).items():
        hooks.append(module.register_forward_hook(watch(name)))
    try:
        yield
    finally:
        for each in hooks:
            each.remove()
