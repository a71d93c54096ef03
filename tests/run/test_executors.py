"""Workers, Ray and Slurm arrays give the same bytes; kills cost a shard."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from presel_lightning.cli.main import main
from presel_lightning.errors import PreselError, UserError
from presel_lightning.run import executors, files
from presel_lightning.run.files import remove
from tests.conftest import start
from tests.filters.pools import datacomp
from tests.local_ray import local_ray
from tests.run.dying import Dying
from tests.shards.tars import pool, subset

FIFTH = Path(__file__).with_name("fifth_unit.py")
RULES = "[{any: [basic_filter, {clip_score: {fraction: 0.3}}]}]"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Metadata in 12 files; shards, and a subset with copies."""
    folder = tmp_path_factory.mktemp("sources")
    datacomp(folder / "meta", files=12, rows=40)
    names = list(pool(folder / "shards", shards=6))
    subset(folder / "s.npy", [*names[::2], *names[:9]])
    return folder


def filter_words(sources: Path, out: Path) -> list[str]:
    return [
        "filter",
        *("--metadata", str(sources / "meta")),
        *("--rules", RULES),
        *("--output", str(out / "uids.npy")),
    ]


def reshard_words(sources: Path, out: Path) -> list[str]:
    words = ["--input", str(sources / "shards"), "--subset", str(sources / "s.npy")]
    return ["reshard", *words, "--output", str(out / "shards"), "--shard_size", "5"]


def tree(folder: Path) -> dict[str, bytes | dict[str, str]]:
    """Files of a folder; of the summaries what does not name the folder."""
    found: dict[str, bytes | dict[str, str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".work" not in str(path.relative_to(folder)):
            name = path.relative_to(folder).as_posix()
            found[name] = path.read_bytes()
            if path.name == "meta.json":
                kept = json.loads(path.read_text())
                found[name] = {key: str(v) for key, v in kept.items() if key != "output_dir"}
    return found


@pytest.fixture(scope="module")
def expected(
    sources: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes | dict[str, str]]:
    """What one process writes."""
    out = tmp_path_factory.mktemp("expected")
    assert main(filter_words(sources, out)) == 0
    assert main(reshard_words(sources, out)) == 0
    return tree(out)


def test_two_processes(
    sources: Path, expected: dict[str, bytes | dict[str, str]], tmp_path: Path
) -> None:
    for words in (filter_words(sources, tmp_path), reshard_words(sources, tmp_path)):
        assert main([*words, "--workers", "2"]) == 0
    assert tree(tmp_path) == expected


def test_ray(
    sources: Path,
    expected: dict[str, bytes | dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A local Ray of two workers; an error of a task is reported as one of this process."""
    with local_ray(monkeypatch):
        for words in (filter_words(sources, tmp_path), reshard_words(sources, tmp_path)):
            assert main([*words, "--executor", "ray", "--workers", "2"]) == 0
        assert tree(tmp_path) == expected
        capsys.readouterr()
        words = ["filter", "--metadata", str(sources / "meta"), "--rules", "[open_qwen2vl_basic]"]
        words += ["--output", str(tmp_path / "o.npy"), "--executor", "ray"]
        assert main(words) == 2
        assert "no column status" in capsys.readouterr().err


def test_tasks_of_a_slurm_array_share_the_work(
    sources: Path, expected: dict[str, bytes | dict[str, str]], tmp_path: Path
) -> None:
    """Two that run at a time; a third that comes late finds all done."""
    code = (
        "import sys, json; from presel_lightning.cli.main import main; "
        "sys.exit(max(main([*words, '--executor', 'slurm']) for words in json.loads(sys.argv[1])))"
    )
    calls = json.dumps([filter_words(sources, tmp_path), reshard_words(sources, tmp_path)])

    def task(number: int) -> subprocess.Popen[bytes]:
        array = {"SLURM_ARRAY_TASK_ID": str(number + 1), "SLURM_ARRAY_TASK_MIN": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", code, calls],
            env={**os.environ, **array, "SLURM_ARRAY_TASK_COUNT": "3"},
            stdout=subprocess.DEVNULL,
        )

    tasks = [task(0), task(2)]
    assert [each.wait() for each in tasks] == [0, 0]
    assert task(1).wait() == 0
    assert tree(tmp_path) == expected


def test_killed_in_the_middle_and_continued_by_other_workers(
    sources: Path, expected: dict[str, bytes | dict[str, str]], tmp_path: Path
) -> None:
    for words, work in [
        (filter_words(sources, tmp_path), tmp_path / "uids.npy.work"),
        (reshard_words(sources, tmp_path), tmp_path / "shards" / ".work"),
    ]:
        process = start([*words, "--workers", "1"], tmp_path / "log.txt", FIFTH)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
        assert work.is_dir()
        done = {path: path.stat().st_mtime_ns for path in work.rglob("0*.json")}
        assert len(done) == 4
        next(iter(done)).write_bytes(b"")  # as a power failure may leave it
        assert main([*words, "--workers", "2"]) == 0
    (tmp_path / "log.txt").unlink()
    assert tree(tmp_path) == expected


def test_a_killed_worker_costs_its_unit(tmp_path: Path) -> None:
    stage = Dying(tmp_path, "key")
    executors.complete(stage, range(4), "local", 2, "units")
    assert all(stage.manifest(number).is_file() for number in range(4))
    with pytest.raises(PreselError, match="workers die at 00000005"):
        executors.complete(stage, [5, 6], "local", 2, "units")


def test_work_folder_of_a_call_that_ends_is_not_that_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one begins while the old folder is removed."""
    work = tmp_path / "work"

    def behind_the_next(path: Path) -> None:
        if not work.exists():
            with executors.one_at_a_time(work, "slurm"):
                (work / "begun").touch()
        remove(path)

    monkeypatch.setattr(files, "remove", behind_the_next)
    with executors.one_at_a_time(work, "local"):
        (work / "done").touch()
        with (
            pytest.raises(UserError, match="another process works there"),
            executors.one_at_a_time(work, "local"),
        ):
            pass
    assert [path.name for path in tmp_path.rglob("*")] == ["work", "begun"]


def test_a_call_that_is_done_does_nothing(sources: Path, tmp_path: Path) -> None:
    words = filter_words(sources, tmp_path)
    assert main(words) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert main([*words, "--workers", "2"]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    changed = tmp_path / "meta"
    shutil.copytree(sources / "meta", changed)
    (changed / "00003.parquet").unlink()
    words[2] = str(changed)
    assert main(words) == 0
    assert (tmp_path / "uids.npy").stat().st_mtime_ns != before[tmp_path / "uids.npy"]
