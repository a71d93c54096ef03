"""A small pool and one finished run of it, shared by all tests that read runs."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from presel_lightning.cli.main import main
from presel_lightning.quickstart.world import generate
from tests.examples import repeat_examples
from tests.forked import Fork
from tests.ranks import free_port

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
repeat_examples()

SIZES = {"colour": 45, "shape": 30, "count": 35, "caption": 20}
N_POOL = sum(SIZES.values())


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Of the files here only tests are collected: `--doctest-modules` would import every other one,
    in the process of all tests, and scripts of tests change what they import."""
    other = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if other else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test come first, so that two workers have short tests left at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test, and the fixtures made for it, draw the same whichever tests ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def make_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]
) -> Path:
    """A folder that all workers of pytest-xdist share: the first that asks makes it, others wait.

    Tests read such a folder, and copy it before they change anything.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)
    with FileLock(shared / f"{name}.lock"):
        if not (shared / f"{name}.made").exists():
            shutil.rmtree(shared / name, ignore_errors=True)  # of a worker whose making failed
            make(shared / name)
            (shared / f"{name}.made").touch()
    return shared / name


@pytest.fixture(scope="session")
def pool_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.json with 130 records of four tasks, test.json, images/."""
    make = partial(generate, seed=7, sizes=SIZES, test_per_task=4)
    return make_once(tmp_path_factory, "pool", make)


def fit_arguments(pool_folder: Path, out: Path, *more: str) -> list[str]:
    """The quickstart's recipe on the small pool, one epoch, reference of 9."""
    return [
        "fit",
        "--config",
        "quickstart.yaml",
        "--data.annotations",
        str(pool_folder / "train.json"),
        "--data.reference",
        "9",
        "--data.budget",
        "0.25",
        "--data.block_size",
        "4",
        "--trainer.max_epochs",
        "1",
        "--out",
        str(out),
        *more,
    ]


def benchmark_arguments(pool_folder: Path) -> list[str]:
    """Score on the small pool's own test file."""
    name = "presel_lightning.eval.benchmarks.annotation_file.AnnotationFile"
    path = pool_folder / "test.json"
    return ["--benchmarks", f"[{{class_path: {name}, init_args: {{path: {path}, name: tiny}}}}]"]


@pytest.fixture(scope="session")
def finished(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a whole `fit` with all baselines."""

    def make(out: Path) -> None:
        log = out.with_name("finished.log")
        with log.open("w", encoding="utf-8") as handle, redirect_stdout(handle):
            assert main(fit_arguments(pool_folder, out, *benchmark_arguments(pool_folder))) == 0

    return make_once(tmp_path_factory, "finished", make)


@pytest.fixture(scope="session")
def finished_log(finished: Path) -> list[str]:
    """What the finished run has printed, where it was no terminal."""
    return finished.with_name("finished.log").read_text(encoding="utf-8").splitlines()


def scores(out: Path) -> dict[str, dict[str, float]]:
    """Content of `benchmark.json`."""
    table: dict[str, dict[str, float]] = json.loads((out / "benchmark.json").read_text())
    return table


def start(arguments: list[str], log: Path, *first: Path) -> Fork:
    """Run a command in a process of its own, after scripts of a test's, if any."""
    port = str(free_port())  # for the ranks that it starts, if any
    return Fork(arguments, log, {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": port}, first)
