from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer

from presel_lightning.callbacks import Benchmark
from presel_lightning.cli.main import main
from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile
from presel_lightning.eval.benchmarks.lmms import LMMSEval
from presel_lightning.tasks import FineTune
from tests.conftest import benchmark_arguments, fit_arguments


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def fail(path: Path, name: str) -> None:
    """Mark a benchmark as failed in a scores file."""
    found = read(path)
    found["benchmarks"][name] = {"score": None, "tasks": {}, "n": 0, "reasons": {name: "asleep"}}
    path.write_text(json.dumps(found))


def test_failed_benchmark_is_scored_again_on_rerun(
    finished: Path, pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    scores = out / "work" / "scores"
    known = {path.name: read(path)["benchmarks"]["tiny"]["items"] for path in scores.glob("*.json")}
    fail(scores / "random.json", "tiny")
    written = (scores / "full.json").stat().st_mtime_ns
    told = []
    for _ in range(2):
        assert main(fit_arguments(pool_folder, out, *benchmark_arguments(pool_folder))) == 0
        told.append(capsys.readouterr().out.count("reused"))
    assert read(scores / "random.json")["benchmarks"]["tiny"]["items"] == known["random.json"]
    assert read(out / "benchmark.json") == read(finished / "benchmark.json")
    assert (scores / "full.json").stat().st_mtime_ns == written
    assert told[0] == told[1] - 1  # the benchmarks, once


def test_benchmark_with_a_score_is_not_scored_again(pool_folder: Path, tmp_path: Path) -> None:
    benchmarks = [
        AnnotationFile(str(pool_folder / "test.json"), name=name, limit=2, max_new_tokens=2)
        for name in ("first", "second", "third")
    ]
    scorer = Benchmark([*benchmarks], path=tmp_path / "scores.json", key="k")
    module = FineTune("quickstart", tune="none", dtype="float32")
    module.configure_model()
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    before = scorer.run(trainer, module)
    assert scorer.done()
    fail(tmp_path / "scores.json", "second")
    assert not scorer.done() and list(scorer.kept()) == ["first", "third"]
    after = scorer.run(trainer, module)
    assert list(after) == ["first", "second", "third"] and scorer.done()
    assert after == read(tmp_path / "scores.json")["benchmarks"]
    assert [after[name] == before[name] for name in ("first", "third")] == [True, True]
    assert after["second"]["items"] == before["second"]["items"]
    scorer.key = "another model"
    assert not scorer.done() and scorer.kept() == {}


def test_benchmark_skipped_without_key_is_not_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    benchmark = LMMSEval(["MM-Vet"])
    part = {"score": None, "tasks": {}, "n": 0, "reasons": benchmark.skipped()}
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"key": "k", "benchmarks": {"MM-Vet": part}}))
    scorer = Benchmark([benchmark], path=path, key="k")
    assert "OPENAI_API_KEY" in part["reasons"]["MM-Vet"]  # type: ignore[index]
    assert scorer.done()
    monkeypatch.setenv("OPENAI_API_KEY", "one")
    assert not scorer.done()
