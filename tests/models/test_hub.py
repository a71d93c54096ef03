"""A hub out of reach: one connection, one message for all models, and the cache is used."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from presel_lightning.cli.main import main
from presel_lightning.models import hub
from presel_lightning.quickstart import ENCODER
from tests.conftest import fit_arguments
from tests.ports import closed_port

NAMES = (
    "lmsys/vicuna-7b-v1.5 (model.components.language_model)",
    "openai/clip-vit-large-patch14-336 (model.components.vision_tower)",
    "(model.components.projector)",
    "facebook/dinov2-base (stages.features.model.checkpoint)",
)


class SilentServer:
    """Takes connections on loopback, and never answers."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def connections(self) -> int:
        """Count those since the last call: they queue in their order, and one of its own is the last."""
        found = 0
        with socket.create_connection(self.socket.getsockname()) as own:
            while True:
                connection, client = self.socket.accept()
                connection.close()
                if client == own.getsockname():
                    return found
                found += 1

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentServer]:
    """Such a server as the hub, with an empty cache of models."""
    server = SilentServer()
    point_to(server.address, tmp_path, monkeypatch)
    yield server
    server.close()
    hub.obstacle.cache_clear()


def point_to(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub.obstacle.cache_clear()


@pytest.fixture
def refusing() -> Iterator[str]:
    """Address on loopback at which nothing listens."""
    with closed_port() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("command", ["fit", "check"])
def test_silent_hub_is_asked_once_for_all_models_before_anything_is_loaded(
    command: str,
    silent: SilentServer,
    pool_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    annotations = ["--data.annotations", str(pool_folder / "train.json")]
    place = ["--data.image_root", str(pool_folder), "--data.task_rules", "null"]
    more = ["--benchmarks", "[]", "--trainer.devices", "1", "--trainer.accelerator", "cpu"]
    out = ["--out", str(tmp_path / "run")]
    assert main([command, "--config", "llava15.yaml", *annotations, *place, *more, *out]) == 2
    error = capfd.readouterr().err
    assert error.count("cannot be reached") == 1 and error.count("\n") == 1
    assert f"the hub {silent.address}" in error and all(name in error for name in NAMES)
    assert "HF_HUB_OFFLINE=1" in error and "HF_ENDPOINT" in error and "give a folder" in error
    assert silent.connections() == 1
    assert not (tmp_path / "run/pool.parquet").exists()


def test_cached_model_is_used_where_the_hub_refuses(
    refusing: str,
    pool_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    point_to(refusing, tmp_path, monkeypatch)
    repository, commit = tmp_path / "hub/models--some--encoder", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    shutil.copytree(ENCODER, repository / "snapshots" / commit)
    more = ["--selector", "KCenter", "--stages.features.model.checkpoint", "some/encoder"]
    arguments = ["select", *fit_arguments(pool_folder, tmp_path / "run", *more)[1:]]
    assert main(arguments) == 0
    assert f"the hub {refusing} cannot be reached: its cache is used" in capfd.readouterr().out
    hub.obstacle.cache_clear()


def test_offline_by_the_environment_names_what_the_cache_lacks(
    silent: SilentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"HF_HUB_OFFLINE is set.* no/encoder \(stages.features"):
        hub.reach_hub("no/encoder", ["quickstart"])
    assert silent.connections() == 0


def test_hub_ids_are_neither_folders_nor_files_nor_shipped(tmp_path: Path) -> None:
    names = [str(tmp_path), "quickstart", "weights/mm_projector.bin", "./own/model"]
    assert hub.hub_ids("quickstart-encoder", names) == {}
    assert hub.hub_ids(None, ["owner/name"]) == {"owner/name": "model.checkpoint"}
