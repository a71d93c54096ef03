"""Checkpoints that were cut off, damaged or never written to their end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from presel_lightning.callbacks import SaveModel
from presel_lightning.cli.main import main
from presel_lightning.run.checkpoints import MARK, CheckpointFile, fault_of, newest, settle
from presel_lightning.run.ledger import Ledger
from tests.conftest import fit_arguments


def write(folder: Path, step: int, *, sharded: bool = False) -> Path:
    """A checkpoint of two tensors, in one file or in two."""
    path, part = folder / f"step={step}.ckpt", folder / f".step={step}.ckpt.part"
    tensors = {"weights": torch.full((100,), float(step)), "moments": torch.zeros(100)}
    if sharded:
        (part / "checkpoint").mkdir(parents=True)
        for rank, tensor in enumerate(tensors.values()):
            torch.save(tensor, part / "checkpoint" / f"rank_{rank}.pt")
        (part / "latest").write_text("checkpoint")
    else:
        CheckpointFile().save_checkpoint(tensors, part)
    settle(part, path)
    return path


def test_two_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):  # in the order of their steps, not of their names
        write(tmp_path, step)
    assert {path.name for path in tmp_path.iterdir()} == {"step=10.ckpt", "step=11.ckpt"}
    assert newest(tmp_path) == tmp_path / "step=11.ckpt"
    assert newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("place", [0.001, 0.2, 0.5, 0.999])
def test_any_cut_and_any_changed_tensor_is_noticed(place: float, tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(place * len(content))])
    assert fault_of(path)
    start = content.index(torch.full((100,), 1.0).numpy().tobytes())
    path.write_bytes(content[: start + 7] + b"\xff" + content[start + 8 :])
    assert "wrong checksum" in str(fault_of(path))
    path.write_bytes(content)
    assert fault_of(path) is None


def test_sharded_checkpoint_counts_with_its_mark_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older, last = write(tmp_path, 1, sharded=True), write(tmp_path, 2, sharded=True)
    assert newest(tmp_path) == last and not capsys.readouterr().out
    shard = last / "checkpoint" / "rank_1.pt"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert newest(tmp_path) == older and not last.exists()
    (line,) = capsys.readouterr().out.splitlines()
    assert "step=2 (checkpoint/rank_1.pt is missing or cut off)" in line
    assert line.endswith("is damaged; the fit continues from step=1")
    (older / MARK).unlink()
    (tmp_path / ".step=3.ckpt.part").mkdir()  # of a start that was killed
    assert newest(tmp_path) is None and not list(tmp_path.iterdir())
    assert "step=1 (not written to its end)" in capsys.readouterr().out


@pytest.fixture
def cut(
    finished: Path, pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], list[Path]]:
    """Command line of a run that ended before its final model was saved; its checkpoints."""
    out = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(out / "models" / "final")
    Ledger(out / "run.json").record("final", status="running")
    arguments = fit_arguments(pool_folder, out, "--checkpoint_every", "1", "--baselines")

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(SaveModel, "on_train_end", killed)
        main(arguments)
    return arguments, sorted(out.glob("work/fit-final-*/*.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [1, 2])
def test_fit_falls_back_to_the_last_whole_checkpoint(
    damaged: int,
    cut: tuple[list[str], list[Path]],
    finished: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, checkpoints = cut
    first, last = checkpoints
    for path in checkpoints[-damaged:]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    capsys.readouterr()
    assert main(arguments) == 0
    (line,) = [text for text in capsys.readouterr().out.splitlines() if "is damaged" in text]
    then = f"continues from {first.stem}" if damaged == 1 else "begins again"
    assert last.stem in line and line.endswith(f"the fit {then}")
    name = "models/final/adapter_model.safetensors"
    out = first.parents[2]
    assert (out / name).read_bytes() == (finished / name).read_bytes()
