from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BaseImageProcessor,
    Dinov2Model,
    LlavaForConditionalGeneration,
)

from presel_lightning.models.image_text import (
    image_vectors,
    load_image_text,
    load_readers,
    text_vectors,
)
from presel_lightning.quickstart import CHECKPOINT, ENCODER, MATCHER, pretrain
from presel_lightning.quickstart.networks import to_pixels
from presel_lightning.quickstart.world import caption, generate

TINY = pretrain.Plan(scenes=24, vision=2, captions=2, talk=2, encoder=2, matcher=2, batch=8)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> tuple[Image.Image, str, str]:
    folder = tmp_path_factory.mktemp("pool") / "world"
    generate(folder, sizes={"colour": 1}, test_per_task=1)
    (entry,) = json.loads((folder / "test.json").read_text())
    question, answer = (turn["value"] for turn in entry["conversations"])
    with Image.open(folder / entry["image"]) as image:
        return image.copy(), question.removeprefix("<image>"), answer


def _processor(folder: Path) -> BaseImageProcessor:
    processor: BaseImageProcessor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor


def _loss(checkpoint: Path, record: tuple[Image.Image, str, str]) -> float:
    image, question, answer = record
    model = LlavaForConditionalGeneration.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    processor = _processor(checkpoint)
    assert model.dtype == torch.float32

    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    head = [1, *tokens("USER: "), *[3] * 9, *tokens(f"{question} ASSISTANT:")]
    reply = tokens(f" {answer}</s>")
    with torch.no_grad():
        return float(
            model(
                input_ids=torch.tensor([head + reply]),
                labels=torch.tensor([[-100] * len(head) + reply]),
                pixel_values=processor(image, return_tensors="pt")["pixel_values"],
            ).loss
        )


def test_shipped_model_loss_is_below_uniform_guessing(record: tuple[Image.Image, str, str]) -> None:
    # guessing evenly among 800 tokens would cost log(800) = 6.7
    assert 0.0 < _loss(CHECKPOINT, record) < 6.0


def test_shipped_encoder_features_are_robust_to_noise() -> None:
    encoder = Dinov2Model.from_pretrained(ENCODER)  # from_pretrained leaves it in eval mode
    world = pretrain.make_world(32, np.random.default_rng(0))
    with torch.no_grad():
        views = [
            torch.nn.functional.normalize(encoder(pixels).last_hidden_state[:, 0], dim=-1)
            for pixels in (world.pixels, world.pixels + 0.05 * torch.randn_like(world.pixels))
        ]
    similarity = views[0] @ views[1].T
    assert (similarity.argmax(1) == torch.arange(32)).float().mean() > 0.9


def test_shipped_matcher_finds_the_caption_of_an_image() -> None:
    world = pretrain.make_world(32, np.random.default_rng(0))
    model = load_image_text(str(MATCHER), "float32")
    _, reader = load_readers(str(MATCHER))
    with torch.no_grad():
        images = image_vectors(model, world.pixels)
        texts = text_vectors(model, reader([caption(scene) for scene in world.scenes]))
    found = (images @ texts.T).argmax(dim=1) == torch.arange(32)
    assert found.float().mean() > 0.5  # 0.03 by chance


def test_shipped_processors_match_pretraining_pixels() -> None:
    picture = np.random.default_rng(0).integers(0, 256, size=(48, 48, 3), dtype=np.uint8)
    expected = to_pixels(torch.from_numpy(picture)[None])
    for folder in (CHECKPOINT, ENCODER, MATCHER):
        processor = _processor(folder)
        pixels = processor(Image.fromarray(picture), return_tensors="pt")["pixel_values"]
        assert torch.allclose(pixels, expected, atol=1e-6)


def test_shipped_processor_pads_wide_images_with_the_mean() -> None:
    processor = _processor(CHECKPOINT)
    wide = Image.new("RGB", (96, 48), (255, 0, 0))
    pixels = processor(wide, return_tensors="pt")["pixel_values"][0]
    assert pixels.shape == (3, 48, 48)
    assert abs(pixels[:, :10]).max() < 0.02
    assert torch.allclose(pixels[:, 24, 24], torch.tensor([1.0, -1.0, -1.0]))


def test_shipped_weights_are_under_six_megabytes() -> None:
    total = sum(path.stat().st_size for path in CHECKPOINT.parent.rglob("*") if path.is_file())
    assert total < 6_000_000


def test_pretrain_twice_gives_equal_weights(
    tmp_path: Path, record: tuple[Image.Image, str, str]
) -> None:
    losses = []
    for name in ("a", "b"):
        pretrain.pretrain(tmp_path / name, TINY)
        losses.append(_loss(tmp_path / name / "llava", record))
    encoders = [Dinov2Model.from_pretrained(tmp_path / name / "dinov2") for name in "ab"]
    for one, two in zip(encoders[0].parameters(), encoders[1].parameters(), strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, two)
    assert losses[0] == losses[1]
    assert np.isfinite(losses[0])
