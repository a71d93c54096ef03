"""Writers on a file system that is full or read-only."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from presel_lightning.cli.main import main
from presel_lightning.data.image_memory import ABSENT, Scan, open_memory
from presel_lightning.errors import StorageError
from presel_lightning.export.folder import new_folder
from presel_lightning.run.arrays import new_array
from presel_lightning.run.checkpoints import CheckpointFile
from presel_lightning.run.files import replacing, replacing_folder, write_text
from presel_lightning.run.line_file import LineFile
from presel_lightning.run.storage import storage_error, storing_anywhere
from tests.conftest import fit_arguments, start
from tests.ranks import TWO_NODES, ranks
from tests.run.disk import Disk

ROOT = Path(__file__).resolve().parents[2]
ROWS = 1_000_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of 1 MB."""
    (tmp_path / "disk").mkdir()
    mounted = Disk(tmp_path / "disk", "1m")
    yield mounted
    mounted.unmount()


def _parquet(path: Path) -> None:
    with replacing(path) as temporary:
        pq.write_table(pa.table({"x": np.random.default_rng(0).random(ROWS)}), temporary)


def _numpy(path: Path) -> None:
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, np.zeros(ROWS))


def _torch(path: Path) -> None:
    with new_folder(path) as folder:
        torch.save(torch.zeros(ROWS), folder / "model.bin")


def _safetensors(path: Path) -> None:
    with replacing_folder(path) as folder:
        save_file({"x": torch.zeros(ROWS)}, folder / "model.safetensors")


def _mapped(path: Path) -> None:
    """Into memory that is mapped to a file without blocks this ends the process by SIGBUS."""
    with replacing_folder(path) as folder:
        new_array(folder / "features.npy", np.dtype("float32"), (ROWS, 1))[:] = 1.0


def _sqlite(path: Path) -> None:
    try:
        with open_memory(path, "full") as memory:
            facts = {Path(f"{n:0100d}"): (n, n, n) for n in range(20_000)}
            assert ABSENT not in facts.values()
            memory.keep(facts, {file: Scan(None, b"x" * 16) for file in facts})
    finally:
        for file in path.parent.glob("images.sqlite*"):  # it stays, with what was kept before
            file.unlink()


WRITERS: dict[str, Callable[[Path], None]] = {
    "notes.txt": lambda path: write_text(path, "x" * 8 * ROWS),
    "rows.parquet": _parquet,
    "rows.npy": _numpy,
    "step=1.ckpt": lambda path: CheckpointFile().save_checkpoint({"x": torch.zeros(ROWS)}, path),
    "merged": _torch,
    "adapter": _safetensors,
    "features": _mapped,
    "images.sqlite": _sqlite,
}


@pytest.mark.parametrize("name", list(WRITERS))
def test_full_disk_is_one_line_and_nothing_is_left(name: str, disk: Disk) -> None:
    (disk.path / "kept").write_text("old")
    with pytest.raises(StorageError) as caught:
        WRITERS[name](disk.path / name)
    message = str(caught.value)
    assert message.startswith(f"{disk.path}: no space left on device while writing {name}")
    assert "make room, and the same command continues" in message
    if name == "step=1.ckpt":
        assert "which needs at least 4.0 MB; 1.0 MB are free" in message
    assert [path.name for path in disk.path.iterdir()] == ["kept"]


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"images.sqlite"}))
def test_read_only_disk_is_one_line(name: str, disk: Disk) -> None:
    disk.set("ro")
    with pytest.raises(StorageError, match=f"^{disk.path}: read-only file system while writing"):
        WRITERS[name](disk.path / name)


def test_failed_replacement_keeps_the_old_folder(disk: Disk) -> None:
    with replacing_folder(disk.path / "model") as folder:
        (folder / "weights").write_bytes(b"old")
    with pytest.raises(StorageError):
        _safetensors(disk.path / "model")
    assert (disk.path / "model" / "weights").read_bytes() == b"old"


def test_journal_that_finds_no_room_keeps_whole_lines(disk: Disk) -> None:
    file = LineFile(disk.path / "answers.jsonl", heading="heading")
    disk.fill()
    file.append("short")  # the block of the heading has room for it
    with pytest.raises(StorageError, match=r"while writing answers\.jsonl"):
        file.append("x" * 10_000)
    (disk.path / "filler").unlink()
    file.append("later")
    file.close()
    assert LineFile(disk.path / "answers.jsonl", heading="heading").lines == ["short", "later"]


ERRORS = [
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk quota exceeded while writing x;"),
    (RuntimeError("I/O error: File too large (os error 27)"), "file too large while writing x"),
    (sqlite3.OperationalError("attempt to write a readonly database"), "read-only file system"),
]


@pytest.mark.parametrize(("error", "message"), ERRORS)
def test_errors_of_libraries_are_named_by_their_folder(
    error: Exception, message: str, tmp_path: Path
) -> None:
    with pytest.raises(StorageError) as caught, storing_anywhere(lambda: [tmp_path / "x"]):
        try:
            raise error
        except type(error) as cause:  # as Lightning's, on its way out
            raise RuntimeError("in a handler") from cause
    assert str(tmp_path) in str(caught.value)
    found = storage_error(error, tmp_path / "x")
    assert found is not None and message in str(found)


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    for error in (OSError(errno.ECONNREFUSED, "refused"), PermissionError(errno.EPERM, "bind")):
        with pytest.raises(type(error)) as caught, storing_anywhere(lambda: [tmp_path]):
            raise error
        assert caught.value is error


# ---------------------------------------------------------------- commands

HALF = Path(__file__).with_name("half_checkpoint.py")


@pytest.mark.slow
def test_run_on_a_small_disk_continues_when_it_is_enlarged(
    finished: Path,
    pool_folder: Path,
    tmp_path: Path,
    disk: Disk,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--out` on another file system than $TMPDIR; each start meets the end of it in another stage."""
    out = disk.path / "run"
    arguments = fit_arguments(pool_folder, out, "--checkpoint_every", "1", "--baselines")
    for size, folder in (("size=3m", "work/fit-reference"), ("size=9m", "work/fit-final")):
        disk.set(size)
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{out}/{folder}" in line and "no space left on device" in line, line
        assert "which needs at least 6.0 MB" in line and "are free; make room" in line
        assert not [path for path in disk.path.rglob("*.part")]
    disk.set("size=24m")
    assert start(arguments, tmp_path / "log", HALF).wait() == -signal.SIGKILL
    assert main(arguments) == 0
    for name in ("selection/selection.parquet", "models/final/adapter_model.safetensors"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    capsys.readouterr()
    disk.set("ro")
    commands = [
        arguments,
        ["report", "--run", str(out)],
        ["export", "--run", str(out), "--to", "csv", "--path", str(disk.path / "new" / "csv")],
    ]
    for command in commands:
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(disk.path) in line and "read-only file system" in line, line
    written = tmp_path / "exported"
    for to in ("csv", "adapter"):  # from a run that cannot be written
        assert main(["export", "--run", str(out), "--to", to, "--path", str(written / to)]) == 0


@pytest.mark.slow
def test_full_disk_ends_every_process(pool_folder: Path, tmp_path: Path, disk: Disk) -> None:
    disk.set("size=4m")
    logs = [tmp_path / f"log-{rank}" for rank in range(2)]
    arguments = fit_arguments(pool_folder, disk.path / "run", "--checkpoint_every", "1", *TWO_NODES)
    started = ranks(arguments, logs)
    assert [process.wait() for process in started] == [2, 2], logs[1].read_text()
    assert "while writing step=1.ckpt" in logs[0].read_text()
    assert "presel_lightning:" not in logs[1].read_text()


def test_folder_that_cannot_be_made_exits_with_2(
    finished: Path, pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    export = ["export", "--run", str(finished), "--to", "csv", "--path", str(file / "new")]
    for command in (
        fit_arguments(pool_folder, file),
        fit_arguments(pool_folder, file / "run"),
        export,
    ):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(file) in line and "the folder cannot be made" in line


AS_NOBODY = """
import os, sys
from presel_lightning.cli.main import main
export = sys.argv[1:]
assert main([*export, "--path", "here"]) == 0  # everything is imported now
if os.geteuid() == 0:
    os.setuid(65534)
sys.exit(main([*export, "--path", "owned/new"]))
"""


def test_export_to_a_folder_of_another_user_exits_with_2(finished: Path, tmp_path: Path) -> None:
    """As somebody whom permission bits bind."""
    owned = tmp_path / "owned"
    owned.mkdir(mode=0o555)
    shutil.copytree(finished, tmp_path / "run")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    words = ["export", "--run", "run", "--to", "csv", "--image_root", "."]
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2, done.stderr
    assert "owned: permission denied while writing new; make the folder writable" in done.stderr
