"""Models are counted as they are when they are loaded; missing parts of one are named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    MixtralConfig,
    PreTrainedConfig,
)

from presel_lightning import quickstart
from presel_lightning.check.network import feature_width, measure
from presel_lightning.check.origin import read_config, read_processor
from presel_lightning.errors import UserError
from presel_lightning.models import Components, LoRA, Quantization, build_llava, load_model
from presel_lightning.models.assemble import is_assembled
from presel_lightning.models.llava import make_trainable, n_trained_lora
from presel_lightning.tasks import Embed, FineTune
from tests.models.tiny_kinds import EYES, KINDS, TEXT


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Components:
    """A language model with its tokenizer, a CLIP and a projector, as they are published."""
    folder = tmp_path_factory.mktemp("parts")
    whole = AutoConfig.from_pretrained(quickstart.CHECKPOINT)
    LlamaForCausalLM(whole.text_config).save_pretrained(folder / "language")
    CLIPVisionModel(whole.vision_config).save_pretrained(folder / "vision")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(quickstart.CHECKPOINT / file, folder / "language")
    shutil.copy(quickstart.CHECKPOINT / "preprocessor_config.json", folder / "vision")
    wide, narrow = whole.text_config.hidden_size, whole.vision_config.hidden_size
    shapes = {
        "0.weight": (wide, narrow),
        "0.bias": (wide,),
        "2.weight": (wide, wide),
        "2.bias": (wide,),
    }
    state = {f"model.mm_projector.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    torch.save(state, folder / "mm_projector.bin")
    return Components(
        str(folder / "language"), str(folder / "vision"), str(folder / "mm_projector.bin")
    )


@pytest.mark.parametrize("tune", ["lora", "full", "none"])
def test_measure_counts_match_the_loaded_model(tune: str) -> None:
    module = FineTune("quickstart", tune=tune, lora=LoRA(r=4), dtype="float32")  # type: ignore[arg-type]
    network = measure(module, read_config("quickstart"))
    model = load_model("quickstart", module.tune, module.lora, "float32")
    sizes = {True: 0, False: 0}
    for parameter in model.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    assert network.trained == sizes[True] and network.frozen_bytes == 4 * sizes[False]


def with_peft(config: PreTrainedConfig, lora: LoRA) -> tuple[int, int]:
    """Trained and frozen parameters of a network that PEFT has put adapters into."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
        tuned = make_trainable(model, "lora", lora, "random")
    sizes = {True: 0, False: 0}
    for parameter in tuned.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    return sizes[True], sizes[False]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [None, r".*\.q_proj"])
def test_measure_adapters_equal_those_of_peft(kind: str, target: str | None) -> None:
    config, lora = KINDS[kind]()[0].config, LoRA(r=4, target=target)
    network = measure(FineTune("quickstart", lora=lora, dtype="float32"), config)
    trained, frozen = with_peft(config, lora)
    assert (network.trained, network.frozen_bytes) == (trained, 4 * frozen)
    with torch.device("meta"):
        counted = n_trained_lora(AutoModelForImageTextToText.from_config(config), lora)
    assert counted == (None if target else trained)


def test_measure_of_experts_is_left_to_peft() -> None:
    text = MixtralConfig(**TEXT, num_local_experts=4)
    config = LlavaConfig(
        text_config=text, vision_config=CLIPVisionConfig(**EYES, image_size=16, patch_size=4)
    )
    with torch.device("meta"):
        assert n_trained_lora(AutoModelForImageTextToText.from_config(config), LoRA(r=4)) is None
    network = measure(FineTune("quickstart", lora=LoRA(r=4)), config)
    assert network.trained == with_peft(config, LoRA(r=4))[0]


def test_measure_of_components_equals_the_assembled_model(parts: Components) -> None:
    module = FineTune("quickstart", lora=LoRA(r=4))
    together = measure(module, read_config(parts))
    whole = measure(module, read_config("quickstart"))
    assert (together.total, together.trained) == (whole.total, whole.trained)
    module.checkpoint, module.components = None, parts
    processor = read_processor(module, read_config(parts))
    assert processor.n_image_tokens == 9
    assert processor.tokenizer("<image>", add_special_tokens=False)["input_ids"] == [3]


def test_is_assembled_is_true_only_for_equal_components(
    parts: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path))
    assert not is_assembled(parts)
    build_llava(parts.language_model, parts.vision_tower, parts.projector)
    assert is_assembled(parts)
    for name in ("language", "vision"):
        shutil.copytree(Path(parts.language_model).parent / name, tmp_path / "moved" / name)
    moved = tmp_path / "moved"
    assert is_assembled(Components(str(moved / "language"), str(moved / "vision"), parts.projector))
    assert not is_assembled(replace(parts, aspect="square"))


@pytest.mark.parametrize("part", ["language_model", "vision_tower", "projector"])
def test_read_config_missing_component_is_named(
    part: str, parts: Components, tmp_path: Path
) -> None:
    named = {**vars(parts), part: str(tmp_path / "nowhere.bin")}
    with pytest.raises(UserError, match=r"nowhere\.bin") as error:
        read_config(Components(**named))
    assert part in str(error.value) or "checkpoint" in str(error.value)


def test_read_config_mismatched_projector_is_named(parts: Components, tmp_path: Path) -> None:
    state = torch.load(parts.projector, weights_only=True)
    state["model.mm_projector.0.weight"] = torch.zeros(64, 96)
    torch.save(state, tmp_path / "other.bin")
    named = Components(parts.language_model, parts.vision_tower, str(tmp_path / "other.bin"))
    with pytest.raises(UserError, match=r"model\.components\.projector.*other\.bin"):
        read_config(named)


def published(hidden: int, inner: int, layers: int, heads: int) -> LlavaConfig:
    text = LlamaConfig(
        vocab_size=32_064,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
    )
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    return LlavaConfig(text_config=text, vision_config=vision)


def test_measure_llava15_7b_in_bf16_and_four_bits_matches_paper() -> None:
    """LLaVA-1.5-7B: 7.06 billion parameters; LoRA of rank 128 and the projector are 341 million."""
    config = published(4096, 11_008, 32, 32)
    module = FineTune("quickstart", dtype="bfloat16")
    network = measure(module, config)
    assert network.total == pytest.approx(7.063e9, rel=1e-3)
    linear = 32 * (4 * 4096**2 + 3 * 4096 * 11_008)
    adapters = 128 * 32 * (4 * 2 * 4096 + 3 * (4096 + 11_008))
    projector = 1024 * 4096 + 4096 + 4096**2 + 4096
    assert network.trained == adapters + projector
    module.quantization = Quantization()
    packed = measure(module, config)
    assert network.frozen_bytes - packed.frozen_bytes == pytest.approx(linear * (2 - 4.127 / 8))


def test_measure_text_only_model_raises_user_error(parts: Components) -> None:
    module = FineTune(parts.language_model)
    with pytest.raises(UserError, match=r"model\.checkpoint"):
        measure(module, read_config(parts.language_model))


def test_feature_width_equals_the_encoders_hidden_size() -> None:
    encoder = AutoModel.from_pretrained(quickstart.ENCODER)
    with torch.inference_mode():
        hidden = encoder(pixel_values=torch.zeros(1, 3, 48, 48)).last_hidden_state
    assert feature_width(Embed("quickstart-encoder")) == hidden.shape[-1]
