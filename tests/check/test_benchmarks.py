"""What answers take is counted as the model and its encoder will have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from presel_lightning.check.benchmarks import Reader, cached_width
from presel_lightning.check.network import measure
from presel_lightning.check.origin import read_config
from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile
from presel_lightning.eval.benchmarks.lmms import LMMSEval
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.loading.tokens import UNCUT
from presel_lightning.models import load_model, processor_of
from presel_lightning.models.forward import model_inputs
from presel_lightning.models.llava import unwrapped
from presel_lightning.records import Turn
from presel_lightning.tasks import FineTune
from tests.models.tiny_chat import MODELS, write_chat_model


@pytest.fixture(scope="module", params=["quickstart", *MODELS])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    name: str = request.param
    if name == "quickstart":
        return name
    return write_chat_model(name, tmp_path_factory.mktemp(name) / name)


def asked(pool_folder: Path) -> list[tuple[list[Turn], Path]]:
    """Questions of the small pool, the last of them after another turn."""
    items = AnnotationFile(str(pool_folder / "test.json")).items()
    turns = [([*item.history, Turn(item.question, "a")], item.image) for item in items]
    return [*turns, ([Turn("What is it?", "a dog"), *turns[0][0]], turns[0][1])]


@torch.inference_mode()
def test_cached_numbers_are_those_of_the_models_own_cache(
    checkpoint: str, pool_folder: Path
) -> None:
    network = measure(FineTune(checkpoint, tune="none"), read_config(checkpoint))
    model: Any = unwrapped(load_model(checkpoint, "none"))
    encoder = encoder_of("auto", processor_of(checkpoint), UNCUT)
    turns, image = asked(pool_folder)[-1]
    batch = encoder.prompts([(turns[:-1], turns[-1].question, Image.open(image).convert("RGB"))])
    cache = model(**model_inputs(model, batch), use_cache=True).past_key_values
    held = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert network.cached * batch["input_ids"].shape[1] == held > 0


def test_prompt_length_is_that_of_the_prompt(checkpoint: str, pool_folder: Path) -> None:
    encoder = encoder_of("auto", processor_of(checkpoint), UNCUT)
    room = 0 if isinstance(encoder, Encoder) else 8  # an answer of one letter and its end
    for turns, image in asked(pool_folder):
        shown = Image.open(image).convert("RGB")
        batch = encoder.prompts([(turns[:-1], turns[-1].question, shown)])
        more = encoder.prompt_length(turns, image) - batch["input_ids"].shape[1]
        assert 0 <= more <= room


def test_answering_takes_batch_and_lengths_of_the_benchmark(pool_folder: Path) -> None:
    reader = Reader(SelectionDataModule(eval_batch_size=5), processor_of("quickstart"), 2)
    benchmark = AnnotationFile(str(pool_folder / "test.json"), name="tiny", max_new_tokens=9)
    found = reader.answering(benchmark)
    encoder = encoder_of("auto", reader.processor, UNCUT)
    longest = max(encoder.prompt_length(*each) for each in asked(pool_folder)[:-1])
    assert (found.batch, found.prompt, found.answer, found.width) == (5, longest, 9, 2)
    few = AnnotationFile(str(pool_folder / "test.json"), limit=3)
    assert reader.answering(few).batch == 3
    unread = reader.answering(LMMSEval(["POPE"], batch_size=7))
    assert unread.batch == 7 and unread.answer == 1024 and unread.prompt > 128


@pytest.mark.parametrize(
    ("precision", "dtype", "width"),
    [("bf16-mixed", "float32", 2), ("16-true", "auto", 2), ("32-true", "float32", 4)],
)
def test_cached_width_follows_what_is_computed_in(precision: str, dtype: str, width: int) -> None:
    assert cached_width(precision, dtype, read_config("quickstart")) == width
