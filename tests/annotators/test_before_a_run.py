"""What an annotator lacks is found before the first stage of a run, and by `check`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from presel_lightning.annotators import OpenAICompatible
from presel_lightning.cli.main import main
from presel_lightning.errors import UserError
from presel_lightning.run.ledger import Ledger
from tests.annotators.asked import annotator
from tests.annotators.server import KEY, serving
from tests.conftest import fit_arguments
from tests.ports import closed_port

WRITER = [
    *("--annotator", "OpenAICompatible", "--annotator.init_args.model", "tiny"),
    "--annotator.init_args.base_url",
]


@pytest.fixture
def gone() -> Iterator[str]:
    """URL of a server that does not run."""
    with closed_port() as port:
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def run(command: str, pool_folder: Path, out: Path, url: str) -> int:
    return main([command, *fit_arguments(pool_folder, out, *WRITER, url)[1:]])


@pytest.mark.parametrize("command", ["fit", "select", "check"])
def test_missing_key_ends_a_run_before_its_first_stage(
    command: str,
    pool_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    out = tmp_path / "run"
    assert run(command, pool_folder, out, "http://127.0.0.1:9/v1") == 2
    message = capsys.readouterr().err
    assert "OPENAI_API_KEY" in message and "export it" in message and message.count("\n") == 1
    assert not (out / "pool.parquet").exists() and not (out / "signals").exists()


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("command", ["select", "check"])
def test_refused_connection_ends_a_run_before_its_first_stage(
    command: str, gone: str, pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(command, pool_folder, out, gone) == 2
    message = capsys.readouterr().err
    assert gone in message and "start it" in message and KEY not in message
    assert not (out / "pool.parquet").exists()


@pytest.mark.usefixtures("key")
def test_run_with_all_its_answers_only_warns_of_a_server_that_is_gone(
    gone: str, pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    Ledger(out / "run.json").record("annotations", status="done", missing=0)
    words = fit_arguments(pool_folder, out, "--selector", "Random", *WRITER, gone)
    assert main(["select", *words[1:]]) == 0
    assert gone in capsys.readouterr().out and (out / "selection" / "selected.json").is_file()


@pytest.mark.usefixtures("key")
def test_server_that_answers_anything_is_there() -> None:
    """This one knows no GET, and says so; it gets no key."""
    with serving() as server:
        annotator(server).examine()
        assert server.keys == set() and not server.asked


@pytest.mark.usefixtures("key")
def test_url_with_a_mistaken_port_is_an_error_with_a_cure() -> None:
    with pytest.raises(UserError, match="correct the URL"):
        OpenAICompatible("http://localhost:8000v1", "tiny").examine()


@pytest.mark.usefixtures("key")
def test_missing_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with serving() as server, pytest.raises(UserError, match=r"presel-lightning\[api\]"):
        annotator(server).examine()
