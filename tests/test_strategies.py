"""Several processes, in subprocesses of their own: the same choice and, nearly, the same weights."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.conftest import benchmark_arguments, fit_arguments, scores, start

STRATEGIES = {
    "ddp": ["--trainer.strategy", "ddp"],
    "fsdp2": ["--trainer.strategy", "fsdp2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_two_processes_fit_as_one(
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
def test_a_killed_fsdp2_fit_is_continued(pool_folder: Path, tmp_path: Path) -> None:
    weights = []
    for name, killed in (("whole", False), ("killed", True)):
        out, log = tmp_path / name, tmp_path / "log"
        more = ["--trainer.devices", "2", *STRATEGIES["fsdp2"], "--benchmarks", "[]", "--baselines"]
        more += ["--selector", "Random", "--checkpoint_every", "1"]
        arguments = fit_arguments(pool_folder, out, *more)
        if killed:
            process = start(arguments, log)
            while process.poll() is None and not list(out.glob("work/fit-final-*/*step=1.ckpt")):
                time.sleep(0.01)
            assert process.poll() is None, log.read_text()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert start(arguments, log).wait() == 0, log.read_text()
        weights.append(load_file(out / "models" / "final" / "adapter_model.safetensors"))
    for key, value in weights[0].items():
        assert_close(weights[1][key], value, rtol=0, atol=0)
