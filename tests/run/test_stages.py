"""What a stage took is of all its starts, and its peak memory is its own."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from presel_lightning.eval.report.costs import stage_cost
from presel_lightning.run.files import read_json, write_json
from presel_lightning.run.meter import resident_mb
from presel_lightning.run.stages import Facts, Runner


def fails() -> Facts:
    raise RuntimeError("killed")


def die(out: Path, *, key: str = "k", **taken: Any) -> None:
    """A start of the stage that ends early, with what it is said to have taken."""
    runner = Runner(out)
    with pytest.raises(RuntimeError, match="killed"):
        runner.stage("losses", key, [], fails)
    path = out / "work" / "parts" / f"losses-{key}.json"
    *earlier, last = read_json(path)
    write_json(path, [*earlier, {**last, **taken}])


def finish(out: Path, key: str = "k", facts: Facts | None = None) -> dict[str, Any]:
    runner = Runner(out)
    runner.stage("losses", key, [], lambda: facts or {})
    return runner.ledger.stage("losses")


def test_stage_seconds_and_gpu_hours_are_those_of_all_starts(tmp_path: Path) -> None:
    die(tmp_path, seconds=3600.0, device="cuda", devices=2)
    die(tmp_path, seconds=1800.0, device="cuda", devices=4)
    stage = finish(tmp_path)
    assert [part["seconds"] for part in stage["parts"][:2]] == [3600.0, 1800.0]
    assert stage["seconds"] == pytest.approx(sum(part["seconds"] for part in stage["parts"]))
    cost = stage_cost(stage, {"price_per_gpu_hour": 3.0})
    assert cost == {"gpu_hours": pytest.approx(4.0), "gpu_cost": pytest.approx(12.0)}


def test_stage_of_another_key_does_not_count(tmp_path: Path) -> None:
    die(tmp_path, key="other", seconds=3600.0)
    stage = finish(tmp_path)
    assert stage["seconds"] < 3600 and "parts" not in stage
    assert not list((tmp_path / "work" / "parts").iterdir())


def test_stage_peak_memory_is_its_own(tmp_path: Path) -> None:
    """A stage that needs little after one that needed 512 MB."""

    runner = Runner(tmp_path)

    def large() -> Facts:
        before = resident_mb()[0]
        block = np.ones(2**26)
        end = time.monotonic() + 120
        while runner.meter.part()["peak_memory_mb"] < before + 448 and time.monotonic() < end:
            time.sleep(0.01)  # until a sample is taken
        return {"sum": float(block[0])}

    gc.collect()  # what earlier tests have left is no part of the difference
    runner.stage("large", "k", [], large)
    runner.stage("small", "k", [], dict)
    peaks = {name: runner.ledger.stage(name)["peak_memory_mb"] for name in ("large", "small")}
    assert peaks["large"] - peaks["small"] == pytest.approx(512, abs=64)
    assert runner.ledger.stage("small")["peak_memory_kind"] == "sampled_rss"


def test_stage_begun_by_other_versions_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    die(tmp_path, versions={"torch": "0.0.1"})
    stage = finish(tmp_path)
    assert "losses       continued; begun with torch 0.0.1 (now " in capsys.readouterr().out
    assert stage["parts"][0]["versions"] == {"torch": "0.0.1"}
