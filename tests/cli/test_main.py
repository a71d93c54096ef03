"""What a user's mistake is answered with: exit code 2 and one line that names the cure."""

from __future__ import annotations

import gc
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

import presel_lightning.console  # noqa: F401 - it hushes a message
from presel_lightning import __version__
from presel_lightning.cli.main import collection_paused, main
from tests.conftest import fit_arguments, start
from tests.run.held_steps import HELD, hold

MISTAKES = {
    "wrong key": (["--data.bugdet", "0.1"], "did you mean --data.budget?"),
    "wrong nested key": (["--stages.final.modle", "{lr: 1}"], "did you mean --stages.final.model?"),
    "two wrong keys": (["--data.bugdet=1", "--modle.lr=1"], "did you mean --model.lr?"),
    "key of another tool": (["--model.learning_rate", "1"], "did you mean --model.lr?"),
    "key without its section": (["--max_epochs", "1"], "did you mean --trainer.max_epochs?"),
    "key that begins another": (["--budget", "0.1"], "did you mean --data.budget?"),
    "key like no other": (["--xyzzy", "1"], "--xyzzy is not a known option"),
    "one dash": (["-data.budget", "0.1"], "did you mean --data.budget?"),
    "config without its option": (["photos.yaml"], "did you mean --config photos.yaml?"),
    "word of no option": (["--data.annotations", "a.json", "b.json"], "b.json belongs to no"),
    "no value": (["--threads"], "--threads needs a value"),
    "wrong value": (["--data.num_workers", "many"], "data.num_workers: 'many' is invalid; give a"),
    "wrong value of several": (["--seeds", "a"], "seeds: 'a' is invalid; give a whole number"),
    "wrong choice": (["--model.tune", "lorra"], "give lora, full or none; did you mean lora?"),
    "wrong value or null": (
        ["--trainer.max_epochs", "x"],
        "give a whole number from 1 (or -1) or null",
    ),
    "wrong value in a class": (
        ["--selector.init_args.weighting.init_args.temperature", "x"],
        "selector.init_args.weighting.init_args.temperature: 'x' is invalid; give a number above 0 or null",
    ),
    "wrong part of a section": (["--model.quantization", "{bits: 8}"], "model.quantization.bits: "),
    "value for a section": (["--model", "llava"], "--model.KEY VALUE"),
    "dtype of another tool": (["--model.dtype", "fp16"], "bfloat16 or float16"),
    "argument that is needed": (["--annotator", "FromFile"], "--annotator.init_args.path VALUE"),
    "wrong benchmark": (["--benchmarks", "[POPEE]"], "did you mean POPE?"),
    "benchmark for a list of them": (["--benchmarks", "POPE"], "did you mean --benchmarks+ POPE?"),
    "class that is none": (["--trainer.plugins", "{class_path: Foo}"], "trainer.plugins"),
    "percent for a fraction": (["--data.budget", "5"], "5 % is 0.05"),
    "budget above 1": (["--data.budget", "1.5"], "data.budget"),
    "budget of nothing": (["--data.budget", "0"], "data.budget"),
    "budget beyond the pool": (["--data.budget", "1000000"], "data.budget"),
    "budget below the reference": (["--data.budget", "0.01"], "data.reference"),
    "reference below the tasks": (["--data.reference", "2"], "data.reference"),
    "missing file": (["--data.annotations", "nowhere.json"], "nowhere.json"),
    "missing config": (["--config", "zzz.yaml"], "quickstart.yaml"),
    "config without its end": (["--config", "photo"], "did you mean photos.yaml?"),
    "config in a folder": (["--config", "../photos.yaml"], "did you mean photos.yaml?"),
    "no config": (["--config"], "--config needs a file"),
    "unknown selector": (["--selector", "presell"], "did you mean PreSel?"),
    "unknown baseline": (["--baselines", "ful"], "did you mean full?"),
    "wrong override of the features": (
        ["--stages.features.model", "{chekpoint: x}"],
        "stages.features: model.chekpoint is not a known key; did you mean model.checkpoint?",
    ),
    "unknown template": (["--data.template", "alpaca"], "vicuna_v1"),
    "wrong stage override": (["--stages.final.trainer", "{max_epoch: 2}"], "max_epoch"),
    "wrong argument of a selector": (
        ["--selector.init_args.weigting", "size"],
        "did you mean weighting?",
    ),
    "what a selector itself refuses": (
        ["--selector.init_args.weighting", "headrom"],
        "choose from irs, size",
    ),
    "short name with options": (
        [
            "--selector.init_args.weighting=headroom",
            "--selector.init_args.weighting.init_args.shrink=true",
        ],
        "did you mean Headroom?",
    ),
    "wrong option of a part of a selector": (
        ["--selector.init_args.within.init_args.neighbours", "3"],
        "selector.init_args.within NeighborCentrality has no 'neighbours'; it takes neighbors",
    ),
    "abstract class": (
        ["--selector.init_args.within.class_path", "InClusters"],
        "selector.init_args.within 'InClusters' is not a known Within; known: ",
    ),
    "argument of an earlier version": (
        ["--selector.init_args.temperature", "0.1"],
        "selector.init_args.temperature is now selector.init_args.weighting.init_args.temperature",
    ),
    "nested argument of an earlier version": (
        ["--selector.init_args.priors.shape", "2"],
        "selector.init_args.priors is now selector.init_args.weighting.init_args.priors",
    ),
    "batch of nothing": (
        ["--data.batch_size", "0"],
        "data.batch_size: '0' is invalid; give a whole",
    ),
    "processes below none": (["--data.num_workers", "-1"], "give a whole number from 0 to 1024"),
    "processes by the million": (["--data.num_workers", "1000000"], "from 0 to 1024"),
    "adapter of no rank": (["--model.lora.r", "0"], "model.lora.r: '0' is invalid; give a whole"),
    "range in a section": (
        ["--model.lora", "{r: 0}"],
        "model.lora.r: '0' is invalid; give a whole",
    ),
    "range in a class": (
        ["--selector.init_args.within.init_args.images_per_cluster", "0"],
        "init_args.images_per_cluster: '0' is invalid; give a whole number from 1\n",
    ),
    "rate that is no number": (
        ["--model.lr", "nan"],
        "model.lr: 'nan' is invalid; give a number from",
    ),
    "rate without end": (
        ["--model.lr", "1e400"],
        "model.lr: '1e400' is invalid; give a number from 0",
    ),
    "number in a list": (["--model.betas", "[0.9, 1]"], "give a number from 0 to below 1"),
    "seed below none": (
        ["--seed_everything", "-1"],
        "seed_everything: '-1' is invalid; give a whole",
    ),
    "no seed": (["--seed_everything", "null"], "seed_everything: 'null' is invalid; give a whole"),
    "no epoch": (["--trainer.max_epochs", "0"], "trainer.max_epochs: '0' is invalid; give a whole"),
    "epochs without end": (["--trainer.max_epochs", "null"], "trainer.max_steps is -1"),
    "no step": (["--trainer.max_steps", "0"], "trainer.max_steps: '0' is invalid; give a whole"),
    "no end of a stage": (
        ["--stages.final.trainer", "{max_epochs: -1}"],
        "stages.final.trainer.max_epochs is -1",
    ),
    "number for a section of a stage": (
        ["--stages.losses.model", "{lora: 1.5}"],
        "stages.losses.model.lora: 1.5 is invalid",
    ),
    "mapping for a class of a stage": (
        ["--stages.final.trainer", "{plugins: {a: 1}}"],
        "trainer.plugins",
    ),
    "no encoder": (["--stages.features.model", "{checkpoint: }"], "model.checkpoint is null"),
    "trial run": (["--trainer.fast_dev_run", "true"], "trainer.max_steps shortens the fits"),
    "trial run of one step": (
        ["--trainer.fast_dev_run", "1"],
        "trainer.max_steps shortens the fits",
    ),
    "nothing of a signal": (
        ["--trainer.limit_predict_batches", "0"],
        "a signal needs every sample",
    ),
    "part of a signal": (["--trainer.limit_predict_batches", "2"], "a signal needs every sample"),
    "time of another form": (["--trainer.max_time", "10m"], "give a time above 0 as DD:HH:MM:SS"),
    "passes of a stage": (
        ["--stages.final.trainer", "{accumulate_grad_batches: 2}"],
        "stages.final.trainer.accumulate_grad_batches follows from data.batch_size",
    ),
    "more processes than cores": (
        ["--trainer.devices", "100000"],
        "trainer.devices is 100000; give",
    ),
    "machines that nothing names": (["--trainer.num_nodes", "2"], "trainer.num_nodes is 2"),
    "what Lightning refuses": (["--trainer.profiler", "word"], "trainer.profiler: "),
    "name without end": (["--data.annotations", "x" * 5000], "is too long for a path"),
    "missing checkpoint": (["--model.checkpoint", "/nowhere/model"], "model.checkpoint"),
}


@pytest.mark.parametrize(("more", "names"), MISTAKES.values(), ids=MISTAKES)
def test_cli_invalid_option_exits_with_2_and_one_line(
    more: list[str],
    names: str,
    pool_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(fit_arguments(pool_folder, tmp_path, *more)) == 2
    error = capfd.readouterr().err
    assert names in error and error.count("\n") == 1
    assert "usage" not in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("data: {bugdet: 0.1}", "data.bugdet is not a known key; did you mean data.budget?"),
        ("model: {tune: lorra}", "model.tune: 'lorra' is invalid"),
        ("budget: 0.1", "budget is not a known key; did you mean data.budget?"),
        ("stages: {final: {max_epochs: 3}}", "did you mean stages.final.trainer.max_epochs?"),
        ("selector: {class_path: PreSel, init_args: {weigting: size}}", "weighting"),
        ("data:\n  budget: [1,\nmodel:\n", "line 4"),
        ("", "is empty"),
        ("- data", "holds a list"),
        ("data", "holds a str"),
    ],
)
def test_cli_invalid_config_is_named(
    text: str, names: str, pool_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text(text)
    assert main(fit_arguments(pool_folder, tmp_path, "--config", str(faulty))) == 2
    error = capfd.readouterr().err
    assert str(faulty) in error and names in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["fitt"], "did you mean fit?"),
        (["Fit"], "did you mean fit?"),
        (["fit"], "--config quickstart.yaml"),
        (["report", "--run", "nowhere"], "nowhere"),
        (["report"], "--run"),
        (["report", "runs/x"], "did you mean --run runs/x?"),
        (["report", "--rnu", "x"], "did you mean --run?"),
        (["export", "--run", "x"], "--to, --path"),
    ],
)
def test_cli_other_commands_invalid_arguments_exit_with_2(
    words: list[str], names: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capfd.readouterr().err
    assert names in error and error.count("\n") == 1


def test_select_without_answers_exits_with_3_and_one_line(
    pool_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = tmp_path / "answers.csv"
    annotator = ["--annotator", "FromFile", "--annotator.init_args.path", str(answers)]
    words = ["--data.annotations", str(pool_folder / "images"), "--data.reference", "2"]
    command = ["select", *fit_arguments(pool_folder, tmp_path / "run", *words, *annotator)[1:]]
    assert main(command) == 3
    said = capfd.readouterr()
    assert f"{answers}, which does not exist yet" in said.err and said.err.count("\n") == 1
    assert said.out.count("split") == 2  # the stage, and the images to annotate
    first = json.loads((tmp_path / "run/selection/requests.jsonl").read_text().split("\n")[0])
    answers.write_text(f"image,question,answer\n{first['image']},What?,A shape.\n")
    assert main(command) == 3
    said = capfd.readouterr()
    assert (
        "1 of 2 images" in said.err
        and f"question and answer of each into annotator.init_args.path {answers}," in said.err
    )
    assert said.err.count("\n") == 1 and said.out.count("split") == 2


def test_fit_interrupted_exits_with_130_and_names_the_resume(
    pool_folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    begun = hold(tmp_path / "run", "reference").with_name("begun")
    process = start(fit_arguments(pool_folder, tmp_path / "run", *HELD), log)
    while not begun.exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    told = log.read_text()
    assert "Traceback" not in told and "the same command continues" in told.splitlines()[-1]


@pytest.mark.parametrize("collecting", [True, False])
def test_collection_paused_is_resumed_and_skips_the_objects_made(collecting: bool) -> None:
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(ImportError), collection_paused():
            assert not gc.isenabled()
            made = [["of an import"]]
            raise ImportError
        assert gc.isenabled() == collecting
        assert not any(found is made for found in gc.get_objects())
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()
    assert any(found is made for found in gc.get_objects())


def test_print_config_writes_only_the_config_to_stdout() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "presel_lightning", "fit", "--config", "quickstart.yaml"]
    shown = subprocess.check_output([*command, "--print_config"], stderr=theirs)
    told = os.read(ours, 10_000).decode()
    assert told.splitlines() == ["presel_lightning: loading torch and transformers"]
    assert yaml.safe_load(shown)["data"]["annotations"] == "quickstart"


def test_cli_filters_only_the_bitsandbytes_warning(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "none")
    logger.warning("something else")
    assert caplog.messages == ["something else"]


@pytest.mark.parametrize("command", ["select", "check"])
def test_photos_config_without_a_folder_exits_with_2(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--config", "photos.yaml", "--out", str(tmp_path)]) == 2
    assert "give --data.annotations with a folder" in capfd.readouterr().err
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "cats" / "a.png")
    source = ["--data.annotations", str(tmp_path / "photos")]
    assert main([command, *source, "--out", str(tmp_path / "run")]) == 2
    assert "such as --config photos.yaml" in capfd.readouterr().err


def test_fit_too_many_problems_exits_before_training(
    pool_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    records = json.loads((pool_folder / "train.json").read_text())
    for record in records[:20]:
        record["image"] = "images/gone.png"
    (tmp_path / "holes.json").write_text(json.dumps(records))
    source = ["--data.annotations", str(tmp_path / "holes.json")]
    root = ["--data.image_root", str(pool_folder)]
    assert main(fit_arguments(pool_folder, tmp_path / "run", *source, *root)) == 2
    assert "20 missing" in capfd.readouterr().err
    assert len((tmp_path / "run" / "problems.csv").read_text().splitlines()) == 21
    assert not (tmp_path / "run" / "models").exists()


def test_cli_help_and_version_exit_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "quickstart.yaml" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_print_config_shows_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "quickstart.yaml", "--print_config"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(key in shown for key in ("data:", "selector:", "stages:", "baselines:", "trainer:"))


def test_fit_and_compare_reject_each_others_folders(
    finished: Path, pool_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    comparison = tmp_path / "comparison"
    comparison.mkdir()
    (comparison / "grid.json").write_text("{}")
    assert main(fit_arguments(pool_folder, comparison)) == 2
    assert "holds a comparison" in capfd.readouterr().err
    assert main(["compare", *fit_arguments(pool_folder, finished)[1:]]) == 2
    assert "holds a run" in capfd.readouterr().err


def test_select_out_inside_the_image_folder_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    for out in ("photos", "photos/runs/one"):
        arguments = ["--data.annotations", str(tmp_path / "photos"), "--out", str(tmp_path / out)]
        assert main(["select", "--config", "photos.yaml", *arguments]) == 2
        assert "--out" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cats"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            "data: {batch_size: null}",
            "data.batch_size: 'null' is invalid; give a whole number from 1",
        ),
        ("model: {lora: {alpha: null}}", "model.lora.alpha: 'null' is invalid"),
        ("model: {quantization: {kind: null}}", "model.quantization.kind is null"),
        (
            "selector.init_args: {within: {class_path: NeighborCentrality, init_args: {neighbors: }}}",
            "selector.init_args.within.init_args.neighbors is null",
        ),
        ("selector: null\nout: x", "selector is null; known: "),
        (
            "selector: {class_path: PreSel, init_args: {within: null}}",
            "selector.init_args.within is null",
        ),
        (
            "stages: {final: {trainer: {num_nodes: null}}}",
            "stages.final: trainer.num_nodes: 'null'",
        ),
    ],
)
def test_cli_null_of_a_config_that_may_not_be_is_named(
    text: str, names: str, pool_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A parser takes any null of a file, as if nothing had been given."""
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text(text)
    assert main(fit_arguments(pool_folder, tmp_path, "--config", str(faulty))) == 2
    error = capfd.readouterr().err
    assert names in error and error.count("\n") == 1
