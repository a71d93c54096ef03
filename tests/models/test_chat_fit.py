"""The whole recipe, and its parts one by one, on models with a processor of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lightning import Callback
from safetensors.torch import load_file

from presel_lightning.callbacks import Benchmark, StepCheckpoint
from presel_lightning.cli.main import main
from presel_lightning.data.images import open_rgb
from presel_lightning.data.pool import load_pool
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.models import LoRA
from presel_lightning.models.llava import unwrapped
from presel_lightning.quickstart.world import generate
from presel_lightning.run.files import read_json
from presel_lightning.tasks import FineTune
from tests.conftest import benchmark_arguments, fit_arguments
from tests.fits import Kill, Killed, quiet_trainer
from tests.models.tiny_chat import MODELS, encode_chat, write_chat_model
from tests.ranks import run_on_two

ARMS = {"final", "untrained"}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of 40 images."""
    folder = tmp_path_factory.mktemp("few") / "pool"
    generate(folder, seed=7, sizes={"colour": 14, "shape": 12, "count": 14}, test_per_task=2)
    return folder


@pytest.fixture(scope="module", params=MODELS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_chat_model(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def run(checkpoint: str, few: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of a finished run, its folder at the end."""
    out = tmp_path_factory.mktemp("run") / "run"
    more = ["--model.checkpoint", checkpoint, "--data.template", "auto", "--model.lora.r", "4"]
    more += ["--data.budget", "0.5", "--data.micro_batch_size", "3", "--baselines", "untrained"]
    command = fit_arguments(few, out, *benchmark_arguments(few), *more)
    assert main(command) == 0
    return [*command, str(out)]


@pytest.fixture(scope="module")
def data(run: list[str], few: Path) -> SelectionDataModule:
    made = SelectionDataModule(str(few / "train.json"), batch_size=6, num_workers=0)
    made.pool = load_pool(Path(run[-1]), few)
    return made


def module(checkpoint: str, **options: Any) -> FineTune:
    torch.manual_seed(0)
    made = FineTune(checkpoint, lora=LoRA(r=4, dropout=0.0), dtype="float32", **options)
    made.configure_model()
    return made


def test_chat_fit_completes_and_is_reused(
    run: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(run[-1])
    selected = json.loads((out / "selection" / "selected.json").read_text())
    assert len(selected) == 20
    assert set(json.loads((out / "benchmark.json").read_text())) == ARMS
    stages = json.loads((out / "run.json").read_text())["stages"]
    assert {stage["status"] for stage in stages.values()} == {"done"}
    before = (out / "models" / "final" / "adapter_model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    assert main(run[:-1]) == 0
    told = capsys.readouterr().out
    assert told.count("reused") == len(stages) and "two passes" not in told
    assert (out / "models" / "final" / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_chat_paired_losses_match_transformers(run: list[str], data: SelectionDataModule) -> None:
    """Sample by sample, with the tuned reference model and transformers' own loss."""
    out = Path(run[-1])
    tuned = FineTune(str(out / "models" / "reference"), tune="none", dtype="float32")
    tuned.configure_model()
    for sample in pq.read_table(out / "signals" / "paired_loss.parquet").to_pylist():
        row = int(data.pool.rows([sample["uid"]])[0])
        turns, image = data.pool.sample(row).turns, open_rgb(data.pool.image_path(row))
        for side in ("with_question", "without_question"):
            shown = side == "with_question"
            batch = encode_chat(tuned.processor.own, turns, image, with_question=shown)
            with torch.no_grad():
                loss = float(unwrapped(tuned.model)(**batch).loss)
            assert sample[f"loss_{side}"] == pytest.approx(loss, rel=1e-4)


def test_chat_pair_lengths_equal_the_batch_lengths(
    checkpoint: str, data: SelectionDataModule
) -> None:
    processor = module(checkpoint).processor
    uids = data.pool.uid[:5]
    data.pair_up(uids, processor)
    pairs: Any = data.dataset
    for index, length in enumerate(pairs.lengths()):
        batch = pairs.collate([pairs[index, 1.0]])
        sides = [batch[side]["input_ids"] for side in ("with_question", "without_question")]
        assert sum(side.shape[1] for side in sides) == length


def test_chat_generation_does_not_depend_on_the_batch(run: list[str], few: Path) -> None:
    tuned = FineTune(str(Path(run[-1]) / "models" / "final"), tune="none", dtype="float32")
    tuned.configure_model()
    items = AnnotationFile(str(few / "test.json")).items()[:6]
    scorer = Benchmark([])
    together = tuned.generate(scorer.prompts(items, tuned.processor), 8)
    alone = [tuned.generate(scorer.prompts([i], tuned.processor), 8)[0] for i in items]
    assert together == alone and any(together)


def test_chat_model_with_vicuna_template_raises_user_error(
    checkpoint: str, data: SelectionDataModule
) -> None:
    other = SelectionDataModule(data.annotations, template="vicuna_v1")
    with pytest.raises(UserError, match=r"data\.template vicuna_v1 .* auto"):
        other.encoder(module(checkpoint).processor)


def test_chat_max_length_inside_the_image_raises_user_error(
    checkpoint: str, data: SelectionDataModule
) -> None:
    short = SelectionDataModule(data.annotations, max_length=10, batch_size=2, num_workers=0)
    short.pool = data.pool
    with pytest.raises(UserError, match=r"sample .*data\.max_length 10"):
        short.train_on(data.pool.uid[:2], module(checkpoint).processor, seed=0)


@pytest.mark.slow
def test_chat_fit_on_two_processes_matches_one(
    checkpoint: str, run: list[str], few: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    kind = read_json(Path(checkpoint) / "config.json")["model_type"]
    strategy = {"qwen2_5_vl": "fsdp2", "llava_onevision": "ddp"}[kind]
    place = run.index("--out") + 1
    command = [*run[:place], str(out), *run[place + 1 : -1]]
    run_on_two([*command, "--trainer.strategy", strategy], tmp_path / "log")
    known = Path(run[-1])
    selection = "selection/selection.parquet"
    assert (out / selection).read_bytes() == (known / selection).read_bytes()
    name = "models/final/adapter_model.safetensors"
    close(load_file(out / name), load_file(known / name), rtol=1e-2, atol=1e-4)


def fitted(
    checkpoint: str,
    data: SelectionDataModule,
    folder: Path,
    *callbacks: Callback,
    micro: int | None = None,
    path: Path | None = None,
) -> dict[str, torch.Tensor]:
    """What is trained, after an epoch of 15 samples, 6 a step: the last pass of 2 has no row."""
    tuned = module(checkpoint, lr=1e-3, warmup=0.0)
    data.micro_batch_size = micro
    data.train_on(data.pool.uid[:15], tuned.processor, seed=0)
    trainer = quiet_trainer(*callbacks, folder=folder, passes=data.passes(1))
    trainer.fit(tuned, data, ckpt_path=path)
    assert trainer.global_step == 3
    return {name: p.detach() for name, p in tuned.named_parameters() if p.requires_grad}


def close(found: dict[str, torch.Tensor], known: dict[str, torch.Tensor], **bounds: Any) -> None:
    assert found.keys() == known.keys()
    for name, value in known.items():
        torch.testing.assert_close(found[name], value, **bounds)


def test_chat_step_does_not_depend_on_micro_batch_size(
    checkpoint: str, data: SelectionDataModule, tmp_path: Path
) -> None:
    whole = fitted(checkpoint, data, tmp_path)
    close(fitted(checkpoint, data, tmp_path, micro=2), whole, rtol=2e-3, atol=2e-5)


def test_chat_killed_fit_resumes_with_equal_weights(
    checkpoint: str, data: SelectionDataModule, tmp_path: Path
) -> None:
    whole = fitted(checkpoint, data, tmp_path, micro=2)
    saver = StepCheckpoint(every_n_train_steps=1)
    saver.dirpath = str(tmp_path / "kept")
    with pytest.raises(Killed):
        fitted(checkpoint, data, tmp_path, saver, Kill(), micro=2)
    (newest,) = [path for path in (tmp_path / "kept").iterdir() if "step=2" in path.name]
    continued = fitted(checkpoint, data, tmp_path, micro=2, path=newest)
    close(continued, whole, rtol=0, atol=0)


def test_chat_checkpoint_holds_only_trained_weights(run: list[str], checkpoint: str) -> None:
    state = load_file(Path(run[-1]) / "models" / "final" / "adapter_model.safetensors")
    assert any("lora_B" in name and bool(np.any(value.numpy())) for name, value in state.items())
    assert not any("vision_tower" in name and "lora" in name for name in state)
    assert not any("visual" in name and "lora" in name for name in state)


def test_chat_generation_stops_at_a_stop_token(run: list[str], few: Path) -> None:
    tuned = FineTune(str(Path(run[-1]) / "models" / "final"), tune="none", dtype="float32")
    tuned.configure_model()
    items = AnnotationFile(str(few / "test.json")).items()[:1]
    prompts = Benchmark([]).prompts(items, tuned.processor)
    inputs = prompts["input_ids"].shape[1]
    whole = unwrapped(tuned.model).generate(**prompts, max_new_tokens=8, do_sample=False)
    ids = whole[0, inputs:].tolist()
    (text,) = tuned.generate(prompts, 8, [ids[0]])
    decode = tuned.processor.tokenizer.decode
    assert text == decode(ids[:1], skip_special_tokens=True).strip()
