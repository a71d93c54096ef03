from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma3TextConfig, LlamaConfig, LlavaConfig, MistralConfig

from presel_lightning.data.pool import load_pool
from presel_lightning.loading.datasets import PairSet
from presel_lightning.loading.llava_encoder import Encoder, shared_prefix
from presel_lightning.loading.tokens import Encoded, image_token_id
from presel_lightning.models.llava import unwrapped
from presel_lightning.models.paired import why_not_shared
from presel_lightning.records import Turn
from presel_lightning.tasks import FineTune

words = st.lists(
    st.sampled_from(
        [
            "what",
            "is",
            "the",
            "colour",
            "of",
            "red",
            "circle",
            "two",
            "squares",
            "yes",
            "no",
            "photo",
        ]
    ),
    min_size=1,
    max_size=14,
).map(" ".join)
conversations = st.lists(st.builds(Turn, words, words), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def tuned() -> FineTune:
    made = FineTune("quickstart", tune="none", dtype="float32")
    made.configure_model()
    return made


@pytest.fixture(scope="module")
def pairs(tuned: FineTune, finished: Path, pool_folder: Path) -> PairSet:
    pool = load_pool(finished, pool_folder)
    return PairSet(pool, torch.arange(len(pool)).numpy(), encoder(tuned))


def encoder(tuned: FineTune, template: str = "vicuna_bare") -> Encoder:
    return Encoder(template, tuned.processor, 2048)


def sample(tuned: FineTune, template: str, turns: list[Turn], seed: int) -> dict[str, Any]:
    encode = encoder(tuned, template)
    first, second = encode(turns), encode(turns, with_question=False)
    image = image_token_id(tuned.processor.tokenizer)
    pixels = torch.randn(3, 48, 48, generator=torch.Generator().manual_seed(seed))
    shared = shared_prefix(first, second, image)
    return {
        "index": seed,
        "with_question": first,
        "without_question": second,
        "prefix": shared,
        "pixels": pixels,
    }


def alone(tuned: FineTune, sample: dict[str, Any], side: str) -> float:
    """Transformers' own loss of one sample."""
    encoded = sample[side]
    with torch.inference_mode():
        loss = unwrapped(tuned.model)(
            input_ids=torch.tensor([encoded.input_ids]),
            labels=torch.tensor([encoded.labels]),
            pixel_values=sample["pixels"][None],
        ).loss
    return float(loss)


def assert_as_alone(tuned: FineTune, pairs: PairSet, samples: list[dict[str, Any]]) -> None:
    with torch.inference_mode():
        found = tuned.predict_step(pairs.collate(samples), 0)
    for side in ("with_question", "without_question"):
        expected = torch.tensor([alone(tuned, one, side) for one in samples])
        torch.testing.assert_close(found[f"loss_{side}"], expected, rtol=1e-4, atol=0)


@settings(max_examples=25)
@given(
    talks=st.lists(conversations, min_size=1, max_size=5),
    template=st.sampled_from(["vicuna_v1", "vicuna_bare"]),
)
def test_paired_losses_of_any_block_equal_single_samples(
    talks: list[list[Turn]], template: str, tuned: FineTune, pairs: PairSet
) -> None:
    samples = [sample(tuned, template, turns, seed) for seed, turns in enumerate(talks)]
    assert all(one["prefix"] > tuned.processor.n_image_tokens for one in samples)
    assert_as_alone(tuned, pairs, samples)


def test_paired_losses_with_different_prefixes_use_two_passes(
    tuned: FineTune, pairs: PairSet, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [Turn("what is it", "red")]
    samples = [sample(tuned, name, turns, 0) for name in ("vicuna_v1", "vicuna_bare")]
    tuned._reported = False
    assert pairs.collate(samples)["prefix"] == 0
    for _ in range(2):
        assert_as_alone(tuned, pairs, samples)
    assert capsys.readouterr().out.count("two passes") == 1


def test_paired_losses_of_non_causal_model_use_two_passes(
    pairs: PairSet, capsys: pytest.CaptureFixture[str]
) -> None:
    looking = FineTune("quickstart", tune="none", dtype="float32")
    looking.configure_model()
    unwrapped(looking.model).config.get_text_config().is_causal = False
    one = sample(looking, "vicuna_bare", [Turn("what is it", "red circle")], 0)
    assert_as_alone(looking, pairs, [one])
    assert "not causal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        (LlamaConfig(), True),
        (MistralConfig(sliding_window=None), True),
        (MistralConfig(sliding_window=64), False),
        (Gemma3TextConfig(), False),
    ],
)
def test_why_not_shared_rejects_sliding_window_models(text: Any, shares: bool) -> None:
    class Model:
        config = LlavaConfig(text_config=text)

    assert (why_not_shared(Model) is None) == shares


def test_shared_prefix_ends_after_the_image() -> None:
    x = -100
    with_question = Encoded([1, 3, 3, 5, 6, 7], [x, x, x, x, x, 7])
    assert shared_prefix(with_question, Encoded([1, 3, 3, 6, 7], [x, x, x, x, 7]), 3) == 3
    # the question before the image, an answer right behind it, no image, nothing behind it
    assert shared_prefix(Encoded([1, 5, 3, 6], [x] * 4), Encoded([1, 3, 6], [x] * 3), 3) == 0
    assert shared_prefix(Encoded([1, 3, 6], [x, x, 6]), Encoded([1, 3, 6], [x, x, 6]), 3) == 0
    assert shared_prefix(Encoded([1, 6], [x, x]), Encoded([1, 6], [x, x]), 3) == 0
    assert shared_prefix(Encoded([1, 3], [x, x]), Encoded([1, 3], [x, x]), 3) == 0
