from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    AutoProcessor,
    BitImageProcessorPil,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    LlamaForCausalLM,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from presel_lightning.errors import UserError
from presel_lightning.loading.templates import TEMPLATES
from presel_lightning.loading.tokens import encode
from presel_lightning.models import (
    Components,
    LoRA,
    Processor,
    build_llava,
    describe_checkpoint,
    load_model,
    load_processor,
    processor_of,
)
from presel_lightning.records import Turn
from tests.models import tiny


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Components:
    return tiny.write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(parts: Components, **changed: Any) -> Path:
    return build_llava(**{**parts.__dict__, **changed})


def test_assembled_model_logits_match_llava(parts: Components) -> None:
    folder = build(parts)
    model: Any = load_model(str(folder))
    processor = load_processor(str(folder))
    pixels = processor.pixels(tiny.picture())
    language = LlamaForCausalLM.from_pretrained(parts.language_model)
    vision = CLIPVisionModel.from_pretrained(parts.vision_tower)
    projector = torch.load(parts.projector, weights_only=True)
    expected = tiny.literal_logits(language, vision, projector, tiny.IDS, pixels)
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    found = tiny.our_logits(model, tiny.IDS, pixels, image)
    vocabulary = language.config.vocab_size
    assert expected.std() > 0.1
    torch.testing.assert_close(found[:, :vocabulary], expected, rtol=0, atol=1e-5)
    added = expected.mean(1, keepdim=True).expand(-1, found.shape[1] - vocabulary)
    torch.testing.assert_close(found[:, vocabulary:], added, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["siglip", "dinov2"])
def test_assembled_model_on_another_tower_matches_llava(
    parts: Components, kind: str, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {"hidden_size": tiny.VISION, "num_hidden_layers": 3}
    sizes |= {"num_attention_heads": 4, "image_size": tiny.SIDE, "patch_size": tiny.PATCH}
    side = {"height": tiny.SIDE, "width": tiny.SIDE}
    torch.manual_seed(0)
    vision: Any
    if kind == "siglip":
        vision = SiglipVisionModel(SiglipVisionConfig(intermediate_size=48, **sizes))
        SiglipImageProcessorPil(size=side).save_pretrained(tmp_path)
    else:
        vision = Dinov2Model(Dinov2Config(mlp_ratio=2, **sizes))
        BitImageProcessorPil(size={"shortest_edge": tiny.SIDE}, crop_size=side).save_pretrained(
            tmp_path
        )
    vision.eval().save_pretrained(tmp_path)
    folder = build(parts, vision_tower=str(tmp_path))
    model: Any = load_model(str(folder), "lora", LoRA(r=4))
    processor = processor_of(str(folder))
    assert isinstance(processor, Processor) and processor.n_image_tokens == tiny.PLACES
    pixels = processor.pixels(tiny.picture())
    language = LlamaForCausalLM.from_pretrained(parts.language_model)
    projector = torch.load(parts.projector, weights_only=True)
    first = 0 if kind == "siglip" else 1
    expected = tiny.literal_logits(language, vision, projector, tiny.IDS, pixels, first)
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    found = tiny.our_logits(model.eval(), tiny.IDS, pixels, image)
    torch.testing.assert_close(found[:, : expected.shape[1]], expected, rtol=0, atol=1e-5)
    own: Any = AutoProcessor.from_pretrained(folder, backend="pil")
    written = own(text="<image>", images=tiny.picture())["input_ids"][0]
    assert written.count(image) == tiny.PLACES


def test_assembled_vocabulary_and_padding_match_training(parts: Components) -> None:
    folder = build(parts)
    model: Any = load_model(str(folder))
    processor = load_processor(str(folder))
    size = LlamaForCausalLM.from_pretrained(parts.language_model).config.vocab_size
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == size
    assert model.config.image_token_id == size
    assert model.get_input_embeddings().num_embeddings == -(-(size + 1) // 64) * 64
    assert processor.tokenizer.pad_token_id == 0
    assert processor.tokenizer.padding_side == "right"
    assert processor.n_image_tokens == tiny.PLACES
    assert not any(p.is_meta for p in [*model.parameters(), *model.buffers()])


def test_assembled_processor_pads_images_with_the_mean_color(parts: Components) -> None:
    picture = tiny.picture(56, 28)
    mean = (122, 116, 104)
    square = Image.new("RGB", (56, 56), mean)
    square.paste(picture, (0, 14))
    pad = load_processor(str(build(parts)))
    cut = load_processor(str(build(parts, aspect="square")))
    torch.testing.assert_close(pad.pixels(picture), pad.pixels(square))
    torch.testing.assert_close(cut.pixels(picture), cut.pixels(picture.crop((14, 0, 42, 28))))


def test_encode_with_assembled_tokenizer_labels_the_answer(parts: Components) -> None:
    processor = load_processor(parts)
    rendered = TEMPLATES["vicuna_bare"].render([Turn("a cat?", "red cat.")], with_question=True)
    encoded = encode(rendered, processor.tokenizer, processor.n_image_tokens)
    answer = [label for label in encoded.labels if label >= 0]
    assert processor.tokenizer.decode(answer).lstrip() == "red cat.</s>"
    assert encoded.input_ids.count(processor.tokenizer.convert_tokens_to_ids("<image>")) == 16


def test_assembled_chat_template_matches_the_vicuna_template(parts: Components) -> None:
    processor: Any = AutoProcessor.from_pretrained(build(parts), backend="pil")
    turns = [Turn("a cat?", "red cat."), Turn("a?", "1")]
    chat = []
    for number, turn in enumerate(turns):
        shown = [] if number else [{"type": "image"}]
        asked = {"type": "text", "text": turn.question}
        chat.append({"role": "user", "content": [*shown, asked]})
        chat.append({"role": "assistant", "content": turn.answer})
    rendered = TEMPLATES["vicuna_v1"].render(turns, with_question=True)
    assert processor.apply_chat_template(chat) == rendered.text
    invited = processor.apply_chat_template(chat[:1], add_generation_prompt=True)
    assert invited == TEMPLATES["vicuna_v1"].prompt([], "a cat?")


def test_build_with_equal_content_is_cached(parts: Components, tmp_path: Path) -> None:
    folder = build(parts)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    copy = tmp_path / "other.safetensors"
    assert build(parts) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    save_file(torch.load(parts.projector, weights_only=True), copy)
    other = build(parts, projector=str(copy))
    assert other != folder
    same: Any = load_model(str(other)).state_dict()
    for name, tensor in load_model(str(folder)).state_dict().items():
        assert torch.equal(tensor, same[name])


def test_build_does_not_change_the_random_state(parts: Components, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build(parts)
    assert torch.equal(torch.rand(3), expected)


def test_concurrent_builds_assemble_once(
    parts: Components, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: build(parts), range(3)))
    assert len(set(folders)) == 1
    assert capsys.readouterr().out.count("assembling") == 1


def test_describe_checkpoint_depends_on_content_not_path(parts: Components, tmp_path: Path) -> None:
    moved = tmp_path / "mm_projector.bin"
    moved.write_bytes(Path(parts.projector).read_bytes())
    same = Components(parts.language_model, parts.vision_tower, str(moved))
    assert describe_checkpoint(same) == describe_checkpoint(parts)
    torch.save(tiny.projector_state(), moved)
    assert describe_checkpoint(same) != describe_checkpoint(parts)


@pytest.mark.parametrize("part", ["language_model", "vision_tower", "projector"])
def test_build_missing_component_is_named(parts: Components, part: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"model\.components\.{part}: no such"):
        build(parts, **{part: str(tmp_path / "nowhere")})


def test_build_invalid_projector_error_names_the_tensor(parts: Components, tmp_path: Path) -> None:
    path = tmp_path / "mm_projector.bin"
    state = tiny.projector_state()
    torch.save({name.replace("mm_", ""): tensor for name, tensor in state.items()}, path)
    with pytest.raises(UserError, match=r"model\.projector\.0\.weight"):
        build(parts, projector=str(path))
    torch.save({**state, "model.mm_projector.0.bias": torch.zeros(3)}, path)
    with pytest.raises(UserError, match=r"mm_projector\.0\.bias is \(3,\).*\(64,\)"):
        build(parts, projector=str(path))
    path.write_text("<html>")
    with pytest.raises(UserError, match="not a file of tensors"):
        build(parts, projector=str(path))


def test_build_swapped_components_raise_user_error(parts: Components) -> None:
    with pytest.raises(UserError, match=r"vision_tower.*a llama, not a clip"):
        build(parts, vision_tower=parts.language_model)
    with pytest.raises(UserError, match="language_model"):
        build(parts, language_model=parts.vision_tower)


def test_build_into_a_non_empty_folder_raises_user_error(parts: Components, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds something else"):
        build(parts, out=tmp_path / "out")
    assert build(parts, out=tmp_path / "new") == tmp_path / "new"
    assert (tmp_path / "new" / "model.safetensors").is_file()
