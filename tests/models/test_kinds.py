"""The architectures that docs/models.md names: their configs fitted on tiny random parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from presel_lightning.cli.main import main
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.models import processor_of
from presel_lightning.quickstart.world import generate
from presel_lightning.records import Turn
from tests.conftest import benchmark_arguments
from tests.models.tiny import picture
from tests.models.tiny_kinds import KINDS, write_kind

ENDS = {
    "qwen3_vl": "<|im_end|>",
    "smolvlm": "<end_of_utterance>",
    "internvl": "<|im_end|>",
    "gemma3": "<end_of_turn>",
}
IMAGES = {
    "qwen3_vl": "<|image_pad|>",
    "smolvlm": "<image>",
    "internvl": "<IMG_CONTEXT>",
    "gemma3": "<start_of_image>",
}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of 12 images."""
    folder = tmp_path_factory.mktemp("few") / "pool"
    generate(folder, seed=7, sizes={"colour": 6, "shape": 6}, test_per_task=1)
    return folder


@pytest.mark.parametrize("kind", ["qwen3_vl", "smolvlm", "internvl"])
def test_config_of_an_architecture_is_fitted_and_scored(
    kind: str, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = write_kind(kind, tmp_path / "model"), tmp_path / "run"
    records = json.loads((few / "train.json").read_text())
    # its own control tokens as words, and its end in an answer
    records[0]["conversations"][0]["value"] += f" {IMAGES[kind]} <video>"
    records[0]["conversations"][1]["value"] = f"a {ENDS[kind]} b"
    (tmp_path / "train.json").write_text(json.dumps(records))
    words = ["--data.annotations", str(tmp_path / "train.json"), "--data.image_root", str(few)]
    words += ["--model.checkpoint", model, "--model.dtype", "float32", "--model.lora.r", "4"]
    words += ["--trainer.precision", "32-true", "--trainer.accelerator", "cpu", "--baselines", "[]"]
    words += ["--trainer.devices", "1", "--selector", "Random", "--data.budget", "1.0"]
    words += ["--data.batch_size", "6", "--data.num_workers", "0", *benchmark_arguments(few)]
    assert main(["fit", "--config", f"{kind}.yaml", *words, "--out", str(out)]) == 0
    assert set(json.loads((out / "benchmark.json").read_text())) == {"final"}
    assert (out / "models/final/adapter_model.safetensors").is_file()
    assert "not stop generating" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_ends_in_the_stop_token(kind: str, tmp_path: Path) -> None:
    encoder = encoder_of("auto", processor_of(write_kind(kind, tmp_path / "model")), 512)
    tokenizer = encoder.processor.tokenizer
    end = tokenizer.convert_tokens_to_ids(ENDS[kind])
    assert encoder.stop_ids() == [end]
    marks = " ".join(tokenizer.all_special_tokens)
    turns = (Turn(f"what is {marks}?", f"a cat {marks} it is"), Turn("and?", "no"))
    plain: Any = encoder.batch([encoder.sample((Turn("what?", "a cat"),), picture())])
    full: Any = encoder.batch([encoder.sample(turns, picture())])
    image = encoder.processor.own.image_token_id
    counts = [int((each["input_ids"] == image).sum()) for each in (plain, full)]
    assert counts[0] == counts[1] > 0
    assert int((full["labels"] == end).sum()) == 2
    assert tokenizer.decode(full["labels"][full["labels"] >= 0]).count("it is") == 1
