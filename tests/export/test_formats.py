"""Every format, read back by another library, gives the same logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from presel_lightning.errors import UserError
from presel_lightning.export.adapter import export_adapter
from presel_lightning.export.hf import export_hf_merged
from presel_lightning.export.llava import check_name, export_llava
from presel_lightning.models import (
    Components,
    LoRA,
    Processor,
    load_model,
    load_processor,
    save_model,
)
from presel_lightning.run.files import read_json, write_json
from tests.models import tiny

# the keys that PEFT 0.4 (summer of 2023, when LLaVA's code was written) knew of LoRA
OLD_PEFT = {
    "peft_type",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "task_type",
    "inference_mode",
    "r",
    "target_modules",
    "lora_alpha",
    "lora_dropout",
    "fan_in_fan_out",
    "bias",
    "modules_to_save",
    "init_lora_weights",
    "layers_to_transform",
    "layers_pattern",
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRESEL_LIGHTNING_CACHE", str(root / "cache"))
        yield tiny.write_parts(root)


@pytest.fixture(scope="module")
def tuned(parts: Components, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter as a fit writes it, far from where it began."""
    folder: Path = tmp_path_factory.mktemp("run") / "final"
    model = load_model(parts, "lora", LoRA(r=4, alpha=8), "float32")
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(model, folder)
    load_processor(parts).save(folder)
    return folder


def logits(model: Any, processor: Processor) -> torch.Tensor:
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    pixels = processor.pixels(tiny.picture())
    return tiny.our_logits(model.eval(), tiny.IDS, pixels, image)


@pytest.fixture(scope="module")
def expected(tuned: Path) -> torch.Tensor:
    """Logits with the adapter in place, unmerged, as they were when training ended."""
    base = AutoModelForImageTextToText.from_pretrained(
        read_json(tuned / "adapter_config.json")["base_model_name_or_path"]
    )
    before = logits(base, load_processor(str(tuned)))
    after = logits(PeftModel.from_pretrained(base, tuned), load_processor(str(tuned)))
    assert (after - before).abs().max() > 0.1
    return after


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected[:, : found.shape[1]], rtol=0, atol=1e-5)


def test_hf_merged_export_gives_equal_logits(
    tuned: Path, expected: torch.Tensor, tmp_path: Path
) -> None:
    out = export_hf_merged(str(tuned), tmp_path / "out")
    assert not (out / "adapter_config.json").exists() and not list(out.glob("*.bin"))
    model = AutoModelForImageTextToText.from_pretrained(out)
    close(logits(model, load_processor(str(out))), expected)
    processor: Any = AutoProcessor.from_pretrained(out, backend="pil")
    inputs = processor(text="<image>\na", images=tiny.picture(), return_tensors="pt")
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == tiny.PLACES
    assert processor.chat_template


def test_full_model_exports_give_equal_logits(parts: Components, tmp_path: Path) -> None:
    model = load_model(parts, "full", dtype="float32")
    save_model(model, tmp_path / "run")
    load_processor(parts).save(tmp_path / "run")
    processor = load_processor(parts)
    out = export_hf_merged(str(tmp_path / "run"), tmp_path / "out")
    close(
        logits(AutoModelForImageTextToText.from_pretrained(out), processor),
        logits(model, processor),
    )
    llava = export_llava(str(tmp_path / "run"), tmp_path / "llava-whole")
    assert read_json(llava / "config.json")["mm_vision_tower"] == parts.vision_tower


def test_hf_merged_export_keeps_the_base_dtype(parts: Components, tmp_path: Path) -> None:
    base = tmp_path / "base"
    model: Any = load_model(parts, dtype="bfloat16")
    save_model(model, base)
    load_processor(parts).save(base)
    save_model(load_model(str(base), "lora", LoRA(r=4)), tmp_path / "run")
    load_processor(parts).save(tmp_path / "run")
    out = export_hf_merged(str(tmp_path / "run"), tmp_path / "out")
    assert {t.dtype for t in load_file(out / "model.safetensors").values()} == {torch.bfloat16}


def test_adapter_export_gives_equal_logits_with_peft(
    tuned: Path, expected: torch.Tensor, tmp_path: Path
) -> None:
    out = export_adapter(str(tuned), tmp_path / "out")
    base = read_json(out / "adapter_config.json")["base_model_name_or_path"]
    model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), out)
    close(logits(model, load_processor(str(out))), expected)


def test_llava_adapter_export_gives_equal_logits(
    parts: Components, tuned: Path, expected: torch.Tensor, tmp_path: Path
) -> None:
    """Read as LLaVA does: the language model, then the projector, then W += alpha / r B A."""
    out = export_llava(str(tuned), tmp_path / "llava-tiny-lora", merged=False)
    settings = read_json(out / "adapter_config.json")
    assert set(settings) <= OLD_PEFT
    language = LlamaForCausalLM.from_pretrained(settings["base_model_name_or_path"])
    adapter = load_file(out / "adapter_model.safetensors")
    layers = dict(language.named_modules())
    for name, a in adapter.items():
        if ".lora_A." not in name:
            continue
        layer = name.removeprefix("base_model.model.").split(".lora_A")[0]
        assert layer.split(".")[-1] in settings["target_modules"]
        b = adapter[name.replace("lora_A", "lora_B")]
        layers[layer].weight.data += settings["lora_alpha"] / settings["r"] * b @ a
    assert len(adapter) == 2 * 2 * 7
    rest = torch.load(out / "non_lora_trainables.bin", weights_only=True)
    projector = {name.removeprefix("base_model.model."): tensor for name, tensor in rest.items()}
    compare(language, projector, parts, tuned, expected)
    config = read_json(out / "config.json")
    assert config["vocab_size"] == language.config.vocab_size


def test_llava_merged_export_gives_equal_logits(
    parts: Components, tuned: Path, expected: torch.Tensor, tmp_path: Path
) -> None:
    out = export_llava(str(tuned), tmp_path / "LLaVA-tiny")
    state = load_file(out / "model.safetensors")
    projector = {name: state.pop(name) for name in list(state) if "mm_projector" in name}
    config = read_json(out / "config.json")
    assert config["model_type"] == "llava_llama"
    assert config["architectures"] == ["LlavaLlamaForCausalLM"]
    kept = {name: config[name] for name in config if not name.startswith("mm_")}
    language = LlamaForCausalLM(LlamaConfig(**{**kept, "model_type": "llama"}))
    language.load_state_dict(state, strict=True)
    compare(language.eval(), projector, parts, tuned, expected)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert len(tokenizer) == config["vocab_size"] and "<image>" not in tokenizer.get_vocab()
    assert (out / "tokenizer.model").is_file()


def compare(
    language: LlamaForCausalLM,
    projector: dict[str, torch.Tensor],
    parts: Components,
    tuned: Path,
    expected: torch.Tensor,
) -> None:
    vision = CLIPVisionModel.from_pretrained(parts.vision_tower)
    pixels = load_processor(str(tuned)).pixels(tiny.picture())
    found = tiny.literal_logits(language, vision, projector, tiny.IDS, pixels)
    assert found.shape[1] < expected.shape[1]
    close(found, expected)


def test_model_export_to_existing_folder_raises_user_error(tuned: Path, tmp_path: Path) -> None:
    out = export_adapter(str(tuned), tmp_path / "out")
    with pytest.raises(UserError, match="exists already"):
        export_hf_merged(str(tuned), out)
    with pytest.raises(UserError, match="exists already"):
        export_adapter(str(tuned), out)


@pytest.mark.parametrize(
    ("name", "merged", "fits"),
    [
        ("llava-v1.5-lora", False, True),
        ("LLaVA-LoRA", False, True),
        ("llava", False, False),
        ("my-lora", False, False),
        ("llava-presel", True, True),
        ("llava-lora", True, False),
        ("llava-mistral", True, False),
        ("presel", True, False),
    ],
)
def test_check_name_folder_that_llava_misreads_raises(name: str, merged: bool, fits: bool) -> None:
    if fits:
        return check_name(Path(name), merged)
    with pytest.raises(UserError, match=r"folder's name.*give") as error:
        check_name(Path(name), merged)
    check_name(Path(str(error.value).split("give ")[-1]), merged)
    return None


def test_model_export_unsupported_model_raises_user_error(tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="amid the vocabulary"):
        export_llava("quickstart", tmp_path / "llava-q", True, "a/b", "c/d")
    with pytest.raises(UserError, match="--language_model"):
        export_llava("quickstart", tmp_path / "llava-q")
    with pytest.raises(UserError, match=r"no adapter_config\.json"):
        export_adapter("quickstart", tmp_path / "q")
    assert not list(tmp_path.iterdir())


def test_hf_merged_export_of_quantized_base_raises_user_error(tuned: Path, tmp_path: Path) -> None:
    """A base that is stored quantised; not one that was quantised while training."""
    base = tmp_path / "base"
    settings = read_json(tuned / "adapter_config.json")
    origin = Path(settings["base_model_name_or_path"])
    base.mkdir()
    config = read_json(origin / "config.json")
    write_json(base / "config.json", {**config, "quantization_config": {"load_in_4bit": True}})
    run = tmp_path / "run"
    run.mkdir()
    write_json(run / "adapter_config.json", {**settings, "base_model_name_or_path": str(base)})
    with pytest.raises(UserError, match="stored in few bits"):
        export_hf_merged(str(run), tmp_path / "out")


def test_adapter_with_missing_base_is_assembled_again(
    parts: Components,
    tuned: Path,
    expected: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The assembled base was cleared away: it is put together again."""
    config = read_json(tuned / "adapter_config.json")
    export_adapter(str(tuned), tmp_path / "run")
    gone = {**config, "base_model_name_or_path": str(tmp_path / "cleared")}
    write_json(tmp_path / "run" / "adapter_config.json", gone)
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    model = load_model(str(tmp_path / "run"), dtype="float32")
    close(logits(model, load_processor(str(tmp_path / "run"))), expected)
    assert list((tmp_path / "cache" / "llava").glob("*/model.safetensors"))


def tune(parts: Components, folder: Path) -> Path:
    save_model(load_model(parts, "lora", LoRA(r=2), "float32"), folder)
    load_processor(parts).save(folder)
    return folder


def test_llava_export_uses_the_moved_component_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    load_model(tiny.write_parts(tmp_path / "before"))
    (tmp_path / "before").rename(tmp_path / "now")
    vicuna, clip, projector = (
        str(tmp_path / "now" / name) for name in ("vicuna", "clip", "mm_projector.bin")
    )
    run = tune(Components(vicuna, clip, projector), tmp_path / "run")
    out = export_llava(str(run), tmp_path / "llava-lora", merged=False)
    assert read_json(out / "adapter_config.json")["base_model_name_or_path"] == vicuna
    assert read_json(out / "config.json")["mm_vision_tower"] == clip
    (tmp_path / "now").rename(tmp_path / "later")
    for merged, name in ((True, "llava"), (False, "llava-lora2")):
        with pytest.raises(UserError, match=r"no longer there; give --language_model"):
            export_llava(str(run), tmp_path / name, merged)
        later = str(tmp_path / "later" / "vicuna")
        with pytest.raises(UserError, match=r"no longer there; give --vision_tower"):
            export_llava(str(run), tmp_path / name, merged, later)
        assert export_llava(str(run), tmp_path / name, merged, later, "a/b").is_dir()


@pytest.mark.parametrize("aspect", ["pad", "square"])
def test_llava_export_config_matches_the_model(
    aspect: Literal["pad", "square"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    unusual = tiny.write_parts(tmp_path / "parts", head_dim=8, mlp_bias=True, attention_bias=True)
    run = tune(replace(unusual, aspect=aspect), tmp_path / "run")
    out = export_llava(str(run), tmp_path / "llava")
    config = read_json(out / "config.json")
    assert config["image_aspect_ratio"] == aspect
    kept = {name: config[name] for name in config if not name.startswith("mm_")}
    language = LlamaForCausalLM(LlamaConfig(**{**kept, "model_type": "llama"}))
    state = load_file(out / "model.safetensors")
    words = {name: state[name] for name in state if "mm_projector" not in name}
    language.load_state_dict(words, strict=True)
