from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from torch import nn

from presel_lightning.errors import UserError
from presel_lightning.models import Components, LoRA, Quantization, load_model, load_processor
from presel_lightning.models import quantization as four_bit
from presel_lightning.models.forward import answer_losses
from presel_lightning.models.llava import save_model, unwrapped
from presel_lightning.models.parts import is_projector
from presel_lightning.run.fingerprint import fingerprint
from tests.models import tiny

CPU = Quantization(compute_dtype="float32")
SMALL = LoRA(r=4, alpha=8, dropout=0.0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRESEL_LIGHTNING_CACHE", str(root / "cache"))
        yield tiny.write_parts(root)


def load(checkpoint: Any, tune: Any, **options: Any) -> Any:
    return load_model(checkpoint, tune, SMALL, "float32", **{"quantization": CPU, **options})


def batch(parts: Components) -> dict[str, torch.Tensor]:
    processor = load_processor(parts)
    place = tiny.IDS.index(-200)
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    ids = torch.tensor([tiny.IDS[:place] + [image] * tiny.PLACES + tiny.IDS[place + 1 :]])
    labels = ids.masked_fill(torch.arange(ids.shape[1]) < ids.shape[1] - 5, -100)
    pixels = processor.pixels(tiny.picture())[None]
    mask = torch.ones_like(ids)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "pixel_values": pixels}


def test_quantization_applies_only_to_language_model_layers(parts: Components) -> None:
    model = unwrapped(load(parts, "lora"))
    quantised = {name for name, m in model.named_modules() if isinstance(m, Linear4bit)}
    assert len(quantised) == 2 * 7
    assert all(name.startswith("model.language_model.layers.") for name in quantised)
    rest = [
        m for m in model.modules() if isinstance(m, nn.Linear) and not isinstance(m, Linear4bit)
    ]
    assert all(layer.weight.dtype == torch.float32 for layer in rest)
    layer: Any = next(m for m in model.modules() if isinstance(m, Linear4bit))
    assert layer.weight.quant_type == "nf4" and layer.weight.quant_state.nested


def test_quantization_keeps_norms_fp32_and_other_dtypes(parts: Components) -> None:
    model: Any = load_model(parts, "lora", SMALL, "bfloat16", Quantization())
    inner = unwrapped(model)
    assert inner.model.language_model.norm.weight.dtype == torch.float32
    assert inner.get_input_embeddings().weight.dtype == torch.bfloat16
    assert inner.lm_head.weight.dtype == torch.bfloat16
    assert inner.model.vision_tower.dtype == torch.bfloat16
    trained = [p for p in model.parameters() if p.requires_grad]
    assert trained and all(p.dtype == torch.float32 for p in trained)


def test_quantized_training_round_trip_keeps_the_adapter(
    parts: Components, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = batch(parts)
    model = load(parts, "lora")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = answer_losses(model, sample)[0].sum()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any(is_projector(name) for name in names)
    save_model(model, tmp_path)
    assert four_bit.remembered(tmp_path) == CPU
    again = load(str(tmp_path), "none")
    assert hasattr(again, "peft_config")  # not merged
    with torch.no_grad():
        expected, _ = answer_losses(model.eval(), sample)
        found, _ = answer_losses(again, sample)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        merged = load(str(tmp_path), "none", quantization=None)
        near, _ = answer_losses(merged, sample)
    assert not hasattr(merged, "peft_config")
    assert "merged into the full ones" in " ".join(capsys.readouterr().out.split())
    # the weights before rounding are near, and not the same
    assert 0 < (near - expected).abs() < 0.5 * expected.abs() + 1
    with pytest.raises(UserError, match="not merged into four-bit"):
        load(str(tmp_path), "lora")


def test_quantized_full_tuning_raises_user_error(parts: Components) -> None:
    with pytest.raises(UserError, match=r"model\.tune full"):
        load(parts, "full")


def test_quantization_without_bitsandbytes_names_the_extra(
    parts: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(four_bit, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'presel-lightning\[bnb\]'"):
        load(parts, "lora")


def test_quantization_settings_change_the_fingerprint() -> None:
    names = {
        fingerprint(asdict(q)) for q in (CPU, Quantization(), Quantization(double_quant=False))
    }
    assert len(names) == 3
