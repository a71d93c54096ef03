"""DeepSpeed: what it is refused for, and that it trains as ddp does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.testing import assert_close

from presel_lightning.cli.main import main
from presel_lightning.errors import UserError
from presel_lightning.tasks.strategies import our_strategy
from tests.conftest import fit_arguments
from tests.optional import require
from tests.ranks import killed_on_two, run_on_two


@pytest.fixture(scope="module")
def deepspeed() -> None:
    require("deepspeed")


needs_deepspeed = pytest.mark.usefixtures("deepspeed")


@pytest.mark.parametrize("stage", ["2", "3"])
def test_deepspeed_missing_package_names_the_extra(
    stage: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # as where it is not installed
    overlay = ["--config", "quickstart.yaml", "--config", f"deepspeed_zero{stage}.yaml"]
    assert main(["fit", *overlay, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "presel-lightning[deepspeed]" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("overlay", ["deepspeed_zero2", "deepspeed_zero3", "fsdp"])
def test_strategy_overlay_parses_over_the_recipe(
    overlay: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", "llava15.yaml", "--config", f"{overlay}.yaml", "--print_config"]
    with pytest.raises(SystemExit) as left:
        main(["fit", *words])
    assert left.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    strategy = {"fsdp": "fsdp2"}.get(overlay, f"deepspeed_stage_{overlay[-1]}")
    assert printed["trainer"]["strategy"] == strategy
    assert printed["model"]["lora"]["r"] == 128
    assert (printed["model"]["loss_reduction"] == "per_device") == (overlay != "fsdp")


def test_deepspeed_unknown_stage_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="deepspeed_stage_2, "):
        our_strategy("deepspeed_stage_4")


def test_our_strategy_passes_other_strategies_through() -> None:
    assert our_strategy("ddp") == "ddp" and our_strategy("auto") == "auto"


CUT = "{class_path: presel_lightning.strategies.DeepSpeed, init_args: {stage: 3, keep_below: 0}}"
"""No weight of the tiny model is whole, as in a large one."""
UNBUILT = Path(__file__).with_name("unbuilt_ops.py")
Weights = dict[str, torch.Tensor]
STRATEGIES = {0: "ddp", 2: "deepspeed_stage_2", 3: CUT}


def options(stage: int) -> list[str]:
    more = ["--trainer.devices", "2", "--trainer.accelerator", "cpu", "--trainer.strategy"]
    more += [STRATEGIES[stage], "--data.micro_batch_size", "5"]
    return [*more, "--model.loss_reduction", "per_device", "--benchmarks", "[]", "--baselines"]


@needs_deepspeed
def test_deepspeed_global_loss_reduction_exits_with_2(
    pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = fit_arguments(pool_folder, tmp_path / "run", *options(2))
    arguments[arguments.index("per_device")] = "global"
    assert main(arguments) == 2
    assert "model.loss_reduction to per_device" in capsys.readouterr().err


def fitted(pool_folder: Path, folder: Path, stage: int, kill: bool = False) -> Weights:
    """The final adapter of a fit on two processes, killed after its first step if asked."""
    out, log, first = folder / "run", folder / "log", [UNBUILT] if stage else []
    more = ["--selector", "Random", "--checkpoint_every", "1", *options(stage)]
    arguments = fit_arguments(pool_folder, out, *more)
    if kill:
        killed_on_two(arguments, log, lambda: list(out.glob("work/*/*step=1.ckpt/latest")), *first)
    run_on_two(arguments, log, *first)
    return load_file(out / "models" / "final" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def ddp(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return fitted(pool_folder, tmp_path_factory.mktemp("ddp"), stage=0)


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_matches_ddp_and_resumes_after_a_kill(
    stage: int, ddp: Weights, pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        folder.mkdir()
    expected = fitted(pool_folder, whole, stage)
    found = fitted(pool_folder, resumed, stage, kill=True)
    for key, value in ddp.items():
        assert_close(expected[key], value, rtol=1e-3, atol=1e-5)
        assert_close(found[key], expected[key], rtol=0, atol=0)
