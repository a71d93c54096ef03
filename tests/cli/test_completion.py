from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from presel_lightning.cli.main import TRAINING, main

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["--print_completion", "bash"]) == 0
    place = tmp_path / "script"
    place.write_text(capsys.readouterr().out)
    return place


@needs_bash
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["c"], {"compare", "check", "cluster"}),
        (["fit", "--config", "ph"], {"photos.yaml", "ph of mine.yaml"}),
        (["fit", "--config", "photos.yaml", "--data.b"], {"--data.budget", "--data.batch_size"}),
        (["fit", "--selectors"], set()),
        (["compare", "--sel"], {"--selector", "--selectors"}),
        (["export", "--image"], {"--images", "--image_root"}),
        (["filter", "--conf"], {"--config"}),
        (["report", "--d"], {"--diff"}),
    ],
)
def test_completion_bash(typed: list[str], expected: set[str], script: Path) -> None:
    (script.parent / "ph of mine.yaml").touch()
    code = (
        'source ./script; COMP_WORDS=(presel-lightning "$@"); COMP_CWORD=$#\n'
        '_presel_lightning; for word in "${COMPREPLY[@]}"; do echo "$word"; done'
    )
    command = ["bash", "-c", code, "bash", *typed]
    found = subprocess.run(command, cwd=script.parent, check=True, capture_output=True, text=True)
    assert set(found.stdout.splitlines()) == expected


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_completion_zsh_script_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--print_completion=zsh"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    subprocess.run(["zsh", "-n", "script"], cwd=tmp_path, check=True)


def test_completion_zsh_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print_completion=zsh"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("#compdef presel-lightning\n")
    assert all(f"      {command}) known=" in text for command in (*TRAINING, "export", "score"))


@pytest.mark.parametrize("words", [[], ["fish"]])
def test_completion_other_shells_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--print_completion", *words]) == 2
    assert "--print_completion needs bash or zsh" in capsys.readouterr().err
