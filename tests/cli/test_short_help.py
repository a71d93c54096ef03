from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from presel_lightning.cli.light import LIGHT, WEB
from presel_lightning.cli.main import TRAINING, main
from presel_lightning.cli.short_help import KEYS, keys_of
from presel_lightning.cli.training import parse


def as_short(value: Any) -> Any:
    """A class by its name alone."""
    return value["class_path"].rpartition(".")[2] if hasattr(value, "class_path") else value


def test_short_help_names_keys_of_the_parser_with_their_defaults() -> None:
    config = parse("fit", []).config
    known = {key.name: key.default for keys in KEYS.values() for key in keys}
    del known["config"]
    assert {name: as_short(config[name]) for name in known} == known


@pytest.mark.parametrize("command", TRAINING)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_short_help_has_one_line_a_key_and_says_how_to_get_the_rest(
    command: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--config", "photos.yaml", word]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line.split()[0][2:] for line in lines if line.startswith("  --")]
    assert named == [key.name for keys in keys_of(command).values() for key in keys]
    assert max(map(len, lines)) <= 100
    assert lines[-1] == f"Every key: presel_lightning {command} --help all"


@pytest.mark.parametrize("words", [["--help", "all"], ["--help=all"]])
def test_help_all_lists_every_key(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["fit", *words])
    assert left.value.code == 0
    assert "--data.several_images" in capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = {line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "}
    assert named == {*TRAINING, *LIGHT, *WEB} and "prepare" in named


def test_unknown_option_names_the_help_that_lists_every_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["export", "--xyzzy", "3"]) == 2
    assert "--xyzzy is not a known option; `--help all`" in capsys.readouterr().err


def test_report_of_no_run_names_both_commands_that_write_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--run", str(tmp_path)]) == 2
    assert "give a folder that `select` or `fit` wrote" in capsys.readouterr().err


def test_short_help_and_completion_import_no_torch() -> None:
    code = (
        "import sys\n"
        "from presel_lightning.cli.main import main\n"
        "main(['fit', '--help']); main(['--print_completion', 'zsh'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
