"""Several processes, in subprocesses: the same selection and, nearly, the same weights."""

from __future__ import annotations

import os
import shutil
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
from presel_lightning.run.ledger import Ledger
from tests.conftest import benchmark_arguments, fit_arguments, scores, start
from tests.ranks import killed_on_two, run_on_two
from tests.run.held_steps import HELD, hold

STRATEGIES = {
    "ddp": ["--trainer.strategy", "ddp"],
    "fsdp2": ["--trainer.strategy", "fsdp2"],
}


FORKING = "{class_path: lightning.pytorch.strategies.DDPStrategy, init_args: {start_method: fork}}"
SPAWNING = [
    ("fit", "ddp_spawn"),
    ("select", "ddp_fork"),
    ("compare", "ddp_notebook"),
    ("evaluate", "ddp_spawn_find_unused_parameters_true"),
    ("fit", FORKING),
    ("check", "ddp_spawn"),
]


@pytest.mark.parametrize(("command", "strategy"), SPAWNING)
def test_strategy_that_spawns_is_refused_with_its_cure(
    command: str, strategy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["--config", "quickstart.yaml", "--trainer.strategy", strategy, "--out", str(out)]
    more = ["--trainer.devices", "2", "--trainer.accelerator", "cpu", "--checkpoint", "quickstart"]
    assert main([command, *words, *more]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "set trainer.strategy to ddp" in error
    named = "DDPStrategy (start_method fork)" if strategy == FORKING else strategy
    assert f"{named} starts processes" in error
    assert not out.exists()


def test_stage_that_alone_spawns_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--stages.losses.trainer", "{strategy: ddp_spawn}"]
    assert main(["fit", "--config", "quickstart.yaml", *own, "--out", str(tmp_path / "run")]) == 2
    assert "stage losses: trainer.strategy ddp_spawn" in capsys.readouterr().err


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


def two_processes(pool_folder: Path, out: Path, strategy: str, *more: str) -> list[str]:
    """A fit without baselines in which the last passes of a rank may have no row."""
    options = ["--trainer.devices", "2", *STRATEGIES[strategy], "--data.micro_batch_size", "5"]
    return fit_arguments(pool_folder, out, *options, "--baselines", *more)


@pytest.fixture(scope="module")
def whole(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run folder for each strategy, made without a break."""
    made = {}
    for strategy in STRATEGIES:
        made[strategy] = out = tmp_path_factory.mktemp(strategy) / "run"
        log = out.parent / "log"
        command = two_processes(pool_folder, out, strategy, *benchmark_arguments(pool_folder))
        assert start(command, log).wait() == 0, log.read_text()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fit_on_two_processes_matches_one(
    strategy: str, finished: Path, whole: dict[str, Path]
) -> None:
    out = whole[strategy]
    for file in ("selection/selection.parquet", "selection/selected.json"):
        assert (out / file).read_bytes() == (finished / file).read_bytes()
    name = "models/final/adapter_model.safetensors"
    found, known = load_file(out / name), load_file(finished / name)
    assert found.keys() == known.keys()
    for key, value in known.items():
        assert_close(found[key], value, rtol=1e-2, atol=1e-4)
    assert scores(out)["final"]["tiny"] == scores(finished)["final"]["tiny"]


STOPS = [
    ("reference", "rank 1", "logs/reference/begun"),
    ("features", "rank 0", "logs/features/begun"),
    ("final", "both", "logs/final/begun"),
]
"""The stage in which SIGTERM is sent, to whom, and the file of the run that tells the moment."""


@pytest.mark.slow
def test_stopped_rank_takes_all_along_and_restarts_match(
    whole: dict[str, Path], pool_folder: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    arguments = two_processes(pool_folder, out, "ddp", *benchmark_arguments(pool_folder), *HELD)
    for stage, whom, moment in STOPS:
        held = hold(out, stage)
        process = start(arguments, log)
        while not list(out.glob(moment)):
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if whom == "both":
            os.killpg(process.pid, signal.SIGTERM)
        else:
            os.kill(int(children[0]) if whom == "rank 1" else process.pid, signal.SIGTERM)
        assert process.wait(timeout=300) == 143, log.read_text()
        held.unlink()
        end = time.monotonic() + 120  # until the kernel has freed what they held
        while any(is_running(int(child)) for child in children):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.01)
        saved = [path.name for path in out.glob(f"work/fit-{stage}-*/*.ckpt")]
        assert saved == ([] if stage == "features" else ["step=1.ckpt"])
    assert start(arguments, log).wait() == 0, log.read_text()
    said = log.read_text()
    assert said.count("stopped; the same command continues") == 3 and "Traceback" not in said
    for name in EXACT:
        assert (out / name).read_bytes() == (whole["ddp"] / name).read_bytes()


EXACT = (
    "selection/selection.parquet",
    "selection/selected.json",
    "models/reference/adapter_model.safetensors",
    "models/final/adapter_model.safetensors",
    "benchmark.json",
)


def is_running(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def full(tied: Path) -> list[str]:
    """Tune all of the tied model, without a benchmark."""
    more = ["--model.checkpoint", str(tied), "--model.tune", "full", "--benchmarks", "[]"]
    return [*more, "--selector", "Random"]


@pytest.fixture(scope="module")
def whole_full(tied: Path, pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder in which FSDP2 tuned all weights without a break."""
    out = tmp_path_factory.mktemp("full") / "run"
    log = out.parent / "log"
    run_on_two(two_processes(pool_folder, out, "fsdp2", *full(tied)), log)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_fsdp2_killed_fit_resumes_with_equal_weights(
    tune: str,
    tied: Path,
    whole: dict[str, Path],
    whole_full: Path,
    pool_folder: Path,
    tmp_path: Path,
) -> None:
    """The selection of the unbroken run is reused."""
    known, more = (whole["fsdp2"], []) if tune == "lora" else (whole_full, full(tied))
    out, log = shutil.copytree(known, tmp_path / "run"), tmp_path / "log"
    shutil.rmtree(out / "models" / "final")
    Ledger(out / "run.json").record("final", status="running")
    arguments = two_processes(pool_folder, out, "fsdp2", *more, "--checkpoint_every", "1")
    killed_on_two(arguments, log, lambda: list(out.glob("work/fit-final-*/*step=1.ckpt")))
    run_on_two(arguments, log)
    (file,) = (out / "models" / "final").glob("*.safetensors")
    found, expected = load_file(file), load_file(known / "models" / "final" / file.name)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert_close(found[key], value, rtol=0, atol=0)


@pytest.mark.slow
def test_fsdp2_keeps_tied_embeddings_as_one_tensor(
    tied: Path, whole_full: Path, pool_folder: Path, tmp_path: Path
) -> None:
    more = ["--data.micro_batch_size", "5", "--baselines", *full(tied)]
    assert main(fit_arguments(pool_folder, tmp_path / "run", *more)) == 0
    alone, cut = (
        load_file(out / "models" / "final" / "model.safetensors")
        for out in (tmp_path / "run", whole_full)
    )
    assert alone.keys() == cut.keys() == load_file(tied / "model.safetensors").keys()
    for key, value in alone.items():
        assert_close(cut[key], value, rtol=1e-2, atol=1e-4)
