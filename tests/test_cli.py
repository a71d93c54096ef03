"""What a user's mistake is answered with: exit code 2 and one line that names the cure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from presel_lightning import __version__
from presel_lightning.cli import main
from tests.conftest import fit_arguments

MISTAKES = {
    "wrong key": (["--data.bugdet", "0.1"], "data.bugdet"),
    "wrong value": (["--data.batch_size", "many"], "data.batch_size"),
    "budget above 1": (["--data.budget", "1.5"], "data.budget"),
    "budget of nothing": (["--data.budget", "0"], "data.budget"),
    "budget beyond the pool": (["--data.budget", "1000000"], "data.budget"),
    "budget below the reference": (["--data.budget", "0.01"], "data.reference"),
    "reference below the tasks": (["--data.reference", "2"], "data.reference"),
    "missing file": (["--data.annotations", "nowhere.json"], "nowhere.json"),
    "missing config": (["--config", "nowhere.yaml"], "quickstart.yaml"),
    "unknown selector": (["--selector", "Oracle"], "PreSel"),
    "unknown baseline": (["--baselines", "oracle"], "untrained"),
    "unknown template": (["--data.template", "alpaca"], "vicuna_v1"),
    "wrong stage override": (["--stages.final.trainer", "{max_epoch: 2}"], "max_epoch"),
    "wrong argument of a selector": (["--selector.init_args.weigting", "size"], "'weigting'"),
    "what a selector itself refuses": (
        ["--selector.init_args.weighting", "headrom"],
        "choose of irs, size",
    ),
    "missing checkpoint": (["--model.checkpoint", "/nowhere/model"], "model.checkpoint"),
}


@pytest.mark.parametrize(("more", "names"), MISTAKES.values(), ids=MISTAKES)
def test_one_line_and_exit_code_2(
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


@pytest.mark.parametrize("words", [["fti"], ["report", "--run", "nowhere"], ["report"]])
def test_mistakes_of_other_commands(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["select", "check"])
def test_photos_without_a_folder(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--config", "photos.yaml", "--out", str(tmp_path)]) == 2
    assert "give --data.annotations with a folder" in capfd.readouterr().err


def test_too_many_problems_stop_before_training(
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


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_runs_and_comparisons_keep_apart(
    finished: Path, pool_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    comparison = tmp_path / "comparison"
    comparison.mkdir()
    (comparison / "grid.json").write_text("{}")
    assert main(fit_arguments(pool_folder, comparison)) == 2
    assert "holds a comparison" in capfd.readouterr().err
    assert main(["compare", *fit_arguments(pool_folder, finished)[1:]]) == 2
    assert "holds a run" in capfd.readouterr().err
