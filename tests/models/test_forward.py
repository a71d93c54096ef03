"""Batches with images, without, and mixed, on LLaVA and on models of other kinds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from presel_lightning.loading.encoders import encoder_of
from presel_lightning.models import LoRA, is_projector, load_model, processor_of
from presel_lightning.models.forward import answer_losses
from presel_lightning.models.llava import trained_state, unwrapped
from presel_lightning.records import Turn
from tests.models.tiny import picture
from tests.models.tiny_chat import MODELS, write_chat_model

SEEN = ([Turn("what colour?", "red")], picture(40, 25))
ALSO_SEEN = ([Turn("how many?", "three"), Turn("sure?", "yes")], picture(16, 30))
READ = ([Turn("who are you?", "a model"), Turn("really?", "no")], None)
ALSO_READ = ([Turn("2 + 2?", "4")], None)


@pytest.fixture(scope="module", params=["quickstart", *MODELS])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "quickstart":
        return "quickstart"
    return write_chat_model(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(checkpoint: str) -> Any:
    torch.manual_seed(0)
    made = load_model(checkpoint, "lora", LoRA(r=4, dropout=0.0), dtype="float32")
    for name, parameter in made.named_parameters():
        if "lora_B" in name:  # 0 at first, and then so is the gradient of A
            parameter.data.normal_(std=0.1)
    return made


@pytest.fixture(scope="module")
def encoder(checkpoint: str) -> Any:
    return encoder_of("auto", processor_of(checkpoint), 2048)


def batch_of(encoder: Any, samples: Sequence[Any]) -> dict[str, Any]:
    made: dict[str, Any] = encoder.batch([encoder.sample(*sample) for sample in samples])
    return made


def in_double(value: Any) -> Any:
    """The floats of a batch, or of a part of it, in double precision."""
    if isinstance(value, dict):
        return {name: in_double(part) for name, part in value.items()}
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def gradients(model: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Losses (B,), and the gradients of their sum."""
    model.zero_grad()
    sums, _ = answer_losses(model, batch)
    sums.sum().backward()
    return sums.detach(), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def test_mixed_batch_gradients_equal_the_sum_of_samples(model: Any, encoder: Any) -> None:
    """In double precision, so that rounding, which differs by processor, hides nothing."""
    samples, exact = [READ, SEEN, ALSO_READ, ALSO_SEEN], copy.deepcopy(model).double()

    def of(some: Sequence[Any]) -> tuple[Tensor, dict[str, Tensor | None]]:
        return gradients(exact, in_double(batch_of(encoder, some)))

    losses, found = of(samples)
    alone = [of([sample]) for sample in samples]
    torch.testing.assert_close(losses, torch.cat([loss for loss, _ in alone]), rtol=1e-6, atol=1e-6)
    for name, gradient in found.items():
        parts = [part[name] for _, part in alone]
        assert gradient is not None and all(part is not None for part in parts)
        expected = torch.stack([part for part in parts if part is not None]).sum(dim=0)
        assert (gradient - expected).norm() <= 1e-6 * expected.norm()


def test_text_batch_losses_equal_the_plain_model(model: Any, encoder: Any) -> None:
    """To the last bit; and what is trained on images gets a gradient, of 0."""
    batch = batch_of(encoder, [READ, ALSO_READ])
    losses, found = gradients(model, batch)
    plain = {name: value for name, value in batch.items() if name != "blank"}
    assert "pixel_values" not in plain and plain.keys() < batch.keys()
    expected, without = gradients(model, plain)
    assert torch.equal(losses, expected)
    assert found.keys() == trained_state(model).keys()
    for name, gradient in found.items():
        plainly = without[name]
        assert gradient is not None and is_projector(name) == (plainly is None)
        assert torch.equal(gradient, torch.zeros_like(gradient) if plainly is None else plainly)


def test_text_batch_calls_the_same_modules_as_an_image_batch(model: Any, encoder: Any) -> None:
    """Ranks with sharded weights run the same collectives, with or without images."""
    names = {module: name for name, module in unwrapped(model).named_modules()}
    entered: list[str] = []
    hooks = [m.register_forward_pre_hook(lambda m, _: entered.append(names[m])) for m in names]
    orders = []
    for sample in (READ, SEEN):
        entered.clear()
        answer_losses(model, batch_of(encoder, [sample]))
        orders.append(list(entered))
    for hook in hooks:
        hook.remove()
    assert any("vision" in name or "visual" in name for name in orders[0])
    assert orders[0] == orders[1]


def test_answer_losses_leave_no_forward_hooks(model: Any, encoder: Any) -> None:
    answer_losses(model, batch_of(encoder, [READ]))
    assert not unwrapped(model).get_decoder()._forward_pre_hooks
