"""Paired losses, training loss and answers beside LLaVA's own computation, sample by sample.

The literal side has the language model without added rows, LLaVA's token ids and masks, an image
padded and normalized by hand, and one sample at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import CLIPImageProcessorPil, CLIPVisionModel, LlamaForCausalLM

from presel_lightning.functional.token_loss import IGNORE
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.models import Components
from presel_lightning.models.llava import unwrapped
from presel_lightning.models.paired import why_not_shared
from presel_lightning.records import Turn
from presel_lightning.tasks import FineTune
from tests.models import tiny
from tests.models.llama_file import OTHER, WORDS, SlowLlama, published_labels, write_trained

N_SAMPLES, BLOCK = 50, 8
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
GAPS = (" ", " ", " ", "  ", "    ", "\n", "\n\n    ", "\t")


@dataclass(frozen=True)
class Published:
    """LLaVA's parts, and what it computes with them."""

    slow: SlowLlama
    language: LlamaForCausalLM
    vision: CLIPVisionModel
    projector: dict[str, torch.Tensor]
    images: Any

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Padded to a square with the mean color, then resized and normalized."""
        side = max(image.size)
        square = Image.new("RGB", (side, side), (122, 116, 104))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return torch.as_tensor(self.images(images=square, return_tensors="pt")["pixel_values"][0])

    def logits(self, ids: list[int], image: Image.Image) -> torch.Tensor:
        """(L', V) of ids with -200 where the image stands."""
        pixels = self.pixels(image)
        return tiny.literal_logits(self.language, self.vision, self.projector, ids, pixels)

    def loss(self, text: str, image: Image.Image) -> float:
        """Mean token loss of the answers in a prompt."""
        ids = self.slow.with_image(text)
        labels = published_labels(text, ids, self.slow)
        place = ids.index(self.slow.image)
        labels[place : place + 1] = [IGNORE] * tiny.PLACES
        ids[place] = -200
        logits, targets = self.logits(ids, image)[:-1], torch.tensor(labels[1:])
        return float(cross_entropy(logits.double(), targets, ignore_index=IGNORE))


@pytest.fixture(scope="module", params=[False, True], ids=["first", "legacy"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("parts")
    write = partial(write_trained, legacy=request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRESEL_LIGHTNING_CACHE", str(folder / "cache"))
        yield tiny.write_parts(folder, write)


@pytest.fixture(scope="module")
def published(parts: Components, request: pytest.FixtureRequest) -> Published:
    file = Path(parts.language_model) / "tokenizer.model"
    legacy = '"legacy": true' in (file.parent / "tokenizer_config.json").read_text()
    return Published(
        SlowLlama(file, legacy=legacy),
        LlamaForCausalLM.from_pretrained(parts.language_model),
        CLIPVisionModel.from_pretrained(parts.vision_tower),
        torch.load(parts.projector, weights_only=True),
        CLIPImageProcessorPil.from_pretrained(parts.vision_tower),
    )


@pytest.fixture(scope="module")
def ours(parts: Components) -> FineTune:
    """Whose added rows would be likely, if they were words."""
    made = FineTune(components=parts, tune="none", dtype="float32")
    made.configure_model()
    model = unwrapped(made.model)
    size = LlamaForCausalLM.from_pretrained(parts.language_model).config.vocab_size
    with torch.no_grad():
        added = model.lm_head.weight[size:]
        added.copy_(3 * model.lm_head.weight[: len(added)])
    assert why_not_shared(model) is None
    return made


def text(rng: np.random.Generator) -> str:
    words = [*WORDS, *OTHER]
    words.remove("ASSISTANT")
    written = [f"{rng.choice(words)}{rng.choice(GAPS)}" for _ in range(rng.integers(1, 9))]
    return "".join(written).strip()


def samples() -> list[tuple[list[Turn], Image.Image]]:
    rng = np.random.default_rng(0)
    return [
        (
            [Turn(text(rng), text(rng)) for _ in range(rng.integers(1, 4))],
            tiny.picture(20 + number, 45),
        )
        for number in range(N_SAMPLES)
    ]


def written(turns: list[Turn], *, with_question: bool) -> str:
    """The prompt as LLaVA writes it, and the question-free one of PreSel."""
    if not with_question:
        answers = " ".join(turn.answer for turn in turns)
        return f"{SYSTEM} USER: <image> ASSISTANT: {answers}</s>"
    first, *rest = turns
    prompt = f"{SYSTEM} USER: <image>\n{first.question} ASSISTANT: {first.answer}</s>"
    return prompt + "".join(f"USER: {t.question} ASSISTANT: {t.answer}</s>" for t in rest)


def test_paired_losses_fifty_samples_equal_llavas(published: Published, ours: FineTune) -> None:
    encoder = Encoder("vicuna_v1", ours.processor, 2048)
    found: dict[str, list[torch.Tensor]] = {"loss_with_question": [], "loss_without_question": []}
    for start in range(0, N_SAMPLES, BLOCK):
        block = [encoder.pair(*sample) for sample in samples()[start : start + BLOCK]]
        with torch.inference_mode():
            losses = ours.predict_step(encoder.pair_batch(block), 0)
        for side, value in found.items():
            value.append(losses[side])
    for side, value in found.items():
        with_question = side == "loss_with_question"
        expected = [
            published.loss(written(turns, with_question=with_question), image)
            for turns, image in samples()
        ]
        torch.testing.assert_close(
            torch.cat(value).double(), torch.tensor(expected).double(), rtol=1e-6, atol=0
        )


def test_training_loss_leaves_added_rows_out(published: Published, ours: FineTune) -> None:
    encoder = Encoder("vicuna_v1", ours.processor, 2048)
    chosen = samples()[:4]
    with torch.inference_mode():
        sums, counts = ours.answer_losses(
            encoder.batch([encoder.sample(*sample) for sample in chosen])
        )
    expected = [
        published.loss(written(turns, with_question=True), image) for turns, image in chosen
    ]
    torch.testing.assert_close(
        (sums / counts).double(), torch.tensor(expected).double(), rtol=1e-6, atol=0
    )


def test_generation_leaves_added_rows_out(published: Published, ours: FineTune) -> None:
    """Greedy answers are LLaVA's, where an added row would often be the likeliest token."""
    encoder = Encoder("vicuna_v1", ours.processor, 2048)
    for turns, image in samples()[:3]:
        prompts = encoder.prompts([((), turns[0].question, image)])
        ids = published.slow.with_image(f"{SYSTEM} USER: <image>\n{turns[0].question} ASSISTANT:")
        ids[ids.index(published.slow.image)] = -200
        start = len(ids)
        while len(ids) < start + 6:
            ids.append(int(published.logits(ids, image)[-1].argmax()))
        answer = ours.processor.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()
        assert ours.generate(prompts, 6) == [answer]
