"""A check leaves every folder as it was: run folder, data, cache, temporary files, where it runs."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from pathlib import Path

import pytest

from presel_lightning import quickstart
from presel_lightning.check.examine import examine_out
from presel_lightning.cli.main import main
from presel_lightning.errors import UserError
from presel_lightning.quickstart import world
from presel_lightning.run.files import keeping_nothing, scratch
from tests.conftest import N_POOL, benchmark_arguments, fit_arguments
from tests.models.tiny import write_parts

State = dict[str, tuple[int, int]]
TEMPORARY = "temporary"


def state_of(folder: Path) -> State:
    """Everything below a folder, with size and time of change; what was made and removed shows too.

    But not in the folder for temporary files, which is there to be used.
    """
    files = [file for file in (folder, *folder.rglob("*")) if file.name != TEMPORARY]
    return {str(f): (f.lstat().st_size, f.lstat().st_mtime_ns) for f in files}


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a command finds all that it could write to."""
    for name in ("here", "cache", TEMPORARY, "data"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / TEMPORARY))
    return tmp_path


def packed(pool_folder: Path, path: Path) -> Path:
    """The pool as a webdataset tar."""
    with tarfile.open(path, "w") as tar:
        for number, record in enumerate(json.loads((pool_folder / "train.json").read_text())):
            file = pool_folder / record.pop("image")
            parts = ((file.suffix, file.read_bytes()), (".json", json.dumps(record).encode()))
            for ending, content in parts:
                member = tarfile.TarInfo(f"{number:05d}{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


QUICKSTART = ["--benchmarks", "[{class_path: AnnotationFile, init_args: {path: quickstart}}]"]


@pytest.mark.parametrize("source", ["files", "tar", "quickstart"])
def test_check_writes_nothing(
    source: str, pool_folder: Path, sandbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*benchmark_arguments(pool_folder), "--trainer.accelerator", "cpu"]
    if source == "files":
        more += ["--probe", "true"]
    if source == "tar":
        more += ["--data.annotations", str(packed(pool_folder, sandbox / "data" / "pool.tar"))]
    if source == "quickstart":
        more = ["--data.annotations", "quickstart", "--check_images", "20", *QUICKSTART]
    before = state_of(sandbox), state_of(pool_folder)
    arguments = fit_arguments(pool_folder, sandbox / "run", *more)
    assert main(["check", *arguments[1:]]) == 0
    assert (state_of(sandbox), state_of(pool_folder)) == before
    screen = capsys.readouterr().out
    assert ("a pass, 20 steps" in " ".join(screen.split())) == (source == "files")
    assert source == "quickstart" or f"{N_POOL} of {N_POOL}" in " ".join(screen.split())


def test_check_leaves_a_run_folder_alone(pool_folder: Path, finished: Path) -> None:
    before = state_of(finished)
    assert main(["check", *fit_arguments(pool_folder, finished)[1:]]) == 0
    assert state_of(finished) == before


def test_check_uses_what_a_run_has_unpacked(
    pool_folder: Path, sandbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = packed(pool_folder, sandbox / "data" / "pool.tar")
    more = ["--data.annotations", str(tar), "--selector", "Random", "--benchmarks", "[]"]
    arguments = fit_arguments(pool_folder, sandbox / "run", *more)[1:]
    assert main(["select", *arguments]) == 0
    # the images of the run are what is looked at: one that is gone there is missing
    (gone, *_) = sorted((sandbox / "run").rglob("unpacked/*/images/**/*.*"))
    gone.unlink()
    before = state_of(sandbox)
    assert main(["check", *arguments]) == 0
    assert state_of(sandbox) == before and "left out: missing" in capsys.readouterr().out


def test_out_that_is_in_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    examine_out(tmp_path / "new" / "run")
    with pytest.raises(UserError, match=rf"--out .*{tmp_path / 'file'} is a file; give a folder"):
        examine_out(tmp_path / "file" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_check_does_not_put_a_model_together_unasked(
    pool_folder: Path, sandbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = write_parts(sandbox / "data" / "parts")
    more = ["--model.checkpoint", "null", "--benchmarks", "[]", "--trainer.accelerator", "cpu"]
    for name in ("language_model", "vision_tower", "projector"):
        more += [f"--model.components.{name}", getattr(parts, name)]
    before = state_of(sandbox)
    assert main(["check", *fit_arguments(pool_folder, sandbox / "run", *more)[1:]]) == 0
    assert state_of(sandbox) == before and "model cache" in capsys.readouterr().out


def test_keeping_nothing_takes_what_the_cache_has(
    sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "generate", lambda target, **_: target.mkdir())
    with keeping_nothing():
        made = quickstart.pool()
        assert made.is_dir() and made.is_relative_to(scratch() or "")
    assert scratch() is None and not any((sandbox / TEMPORARY).iterdir())
    kept = sandbox / "cache" / made.name
    kept.mkdir()
    (kept / "train.json").touch()
    with keeping_nothing():
        assert quickstart.pool() == kept
