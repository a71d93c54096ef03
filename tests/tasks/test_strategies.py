"""Several processes, in subprocesses: the same selection and, nearly, the same weights."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from presel_lightning.cli.main import main
from presel_lightning.models import load_model, load_processor
from tests.conftest import benchmark_arguments, fit_arguments, scores, start

STRATEGIES = {
    "ddp": ["--trainer.strategy", "ddp"],
    "fsdp2": ["--trainer.strategy", "fsdp2"],
}


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's model with tied input and output embeddings."""
    folder = tmp_path_factory.mktemp("tied") / "checkpoint"
    model: Any = load_model("quickstart", dtype="float32")
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
    with torch.no_grad():
        mean = (model.get_input_embeddings().weight + model.lm_head.weight) / 2
        model.get_input_embeddings().weight.copy_(mean)
    model.tie_weights()
    model.save_pretrained(folder)
    load_processor("quickstart").save(folder)
    assert not any("lm_head" in name for name in load_file(folder / "model.safetensors"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_fit_on_two_processes_matches_one(
    strategy: list[str], finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    more = ["--trainer.devices", "2", *strategy, "--data.micro_batch_size", "5", "--baselines"]
    arguments = fit_arguments(pool_folder, out, *benchmark_arguments(pool_folder), *more)
    assert start(arguments, log).wait() == 0, log.read_text()
    selection = "selection/selection.parquet"
    assert (out / selection).read_bytes() == (finished / selection).read_bytes()
    name = "models/final/adapter_model.safetensors"
    found, known = load_file(out / name), load_file(finished / name)
    assert found.keys() == known.keys()
    for key, value in known.items():
        assert_close(found[key], value, rtol=1e-2, atol=1e-4)
    assert scores(out)["final"]["tiny"] == scores(finished)["final"]["tiny"]


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_fsdp2_killed_fit_resumes_with_equal_weights(
    tune: str, tied: Path, pool_folder: Path, tmp_path: Path
) -> None:
    weights = []
    for name, killed in (("whole", False), ("killed", True)):
        out, log = tmp_path / name, tmp_path / "log"
        more = ["--trainer.devices", "2", *STRATEGIES["fsdp2"], "--benchmarks", "[]", "--baselines"]
        more += ["--selector", "Random", "--checkpoint_every", "1", "--model.tune", tune]
        more += ["--model.checkpoint", str(tied) if tune == "full" else "quickstart"]
        arguments = fit_arguments(pool_folder, out, *more)
        if killed:
            process = start(arguments, log)
            while process.poll() is None and not list(out.glob("work/fit-final-*/*step=1.ckpt")):
                time.sleep(0.01)
            assert process.poll() is None, log.read_text()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert start(arguments, log).wait() == 0, log.read_text()
        (file,) = (out / "models" / "final").glob("*.safetensors")
        weights.append(load_file(file))
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        assert_close(weights[1][key], value, rtol=0, atol=0)


@pytest.mark.slow
def test_fsdp2_keeps_tied_embeddings_as_one_tensor(
    tied: Path, pool_folder: Path, tmp_path: Path
) -> None:
    weights: list[dict[str, torch.Tensor]] = []
    for strategy in ([], ["--trainer.devices", "2", *STRATEGIES["fsdp2"]]):
        out, log = tmp_path / f"run{len(weights)}", tmp_path / "log"
        more = [*strategy, "--benchmarks", "[]", "--baselines", "--selector", "Random"]
        more += ["--model.checkpoint", str(tied), "--model.tune", "full"]
        more += ["--data.micro_batch_size", "5"]
        arguments = fit_arguments(pool_folder, out, *more)
        if strategy:
            assert start(arguments, log).wait() == 0, log.read_text()
        else:
            assert main(arguments) == 0
        weights.append(load_file(out / "models" / "final" / "model.safetensors"))
    alone, cut = weights
    assert alone.keys() == cut.keys() == load_file(tied / "model.safetensors").keys()
    for key, value in alone.items():
        assert_close(cut[key], value, rtol=1e-2, atol=1e-4)
