from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer

from presel_lightning.callbacks import Benchmark
from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.main import main
from presel_lightning.cli.training import recipe_from
from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile
from presel_lightning.eval.benchmarks.lmms import LMMSEval
from presel_lightning.eval.benchmarks.predictions import read_predictions
from presel_lightning.run.lock import leave
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
    kept = tmp_path / "predictions.parquet"
    scorer = Benchmark([*benchmarks], path=tmp_path / "scores.json", key="k", predictions=kept)
    module = FineTune("quickstart", tune="none", dtype="float32")
    module.configure_model()
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    before = scorer.run(trainer, module)
    answers = read_predictions(kept, "k")
    assert list(answers) == ["first", "second", "third"]
    assert scorer.done()
    fail(tmp_path / "scores.json", "second")
    assert not scorer.done() and list(scorer.kept()) == ["first", "third"]
    after = scorer.run(trainer, module)
    assert list(after) == ["first", "second", "third"] and scorer.done()
    assert after == read(tmp_path / "scores.json")["benchmarks"]
    assert [after[name] == before[name] for name in ("first", "third")] == [True, True]
    assert after["second"]["items"] == before["second"]["items"]
    assert read_predictions(kept, "k") == answers and read_predictions(kept, "other") == {}
    scorer.key = "another model"
    assert not scorer.done() and scorer.kept() == {}


class Cramped(FineTune):
    """Has room for three prompts: the allocator refuses what more of them ask for."""

    tried: list[int]

    def generate(self, batch: dict[str, Any], *args: Any, **options: Any) -> list[str]:
        rows = len(batch["input_ids"])
        self.tried.append(rows)
        if rows > 3:
            torch.empty(1 << 50, dtype=torch.uint8)
        return super().generate(batch, *args, **options)


def test_answers_are_the_same_whatever_the_batch_and_memory(
    pool_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = AnnotationFile(str(pool_folder / "test.json"), max_new_tokens=8)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    module = Cramped("quickstart", tune="none", dtype="float32")
    module.configure_model()
    answers = {}
    for size in (1, 3, 5, 64):
        module.tried = []
        scorer = Benchmark([benchmark], batch_size=size)
        live = scorer.live(trainer, module, benchmark, Path())
        answers[size] = scorer.answers(benchmark, live)
        n = len(benchmark.items())
        assert sum(rows for rows in module.tried if rows <= 3) == n == len(answers[size])
    assert answers[1] == answers[3] == answers[5] == answers[64]
    assert module.tried[:3] == [16, 8, 4] and max(module.tried[3:]) <= 2
    told = capsys.readouterr().out
    assert "16 benchmark items at a time do not fit" in told and "data.eval_batch_size" in told


def test_eval_batch_size_reaches_every_benchmark_but_those_with_their_own(
    pool_folder: Path, tmp_path: Path
) -> None:
    words, name = find_configs(fit_arguments(pool_folder, tmp_path)[1:])
    recipe, _ = recipe_from("fit", [*words, "--data.eval_batch_size", "5"], name)
    leave()
    recipe.keys["final"] = "k"
    scorer, trainer = recipe.scoring.scorer("final"), Trainer(accelerator="cpu", logger=False)
    module = FineTune("quickstart")
    for benchmark, size in ((LMMSEval(["POPE"]), 5), (LMMSEval(["POPE"], batch_size=2), 2)):
        assert scorer.live(trainer, module, benchmark, tmp_path).batch_size.asked == size


@pytest.mark.parametrize("key", ["data.eval_batch_size", "per_device_eval_batch_size"])
def test_eval_batch_size_that_means_nothing_is_refused(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", "quickstart.yaml", f"--{key}", "0", "--out", str(tmp_path / "run")]
    assert main(["fit", *words]) == 2
    assert "data.eval_batch_size" in capsys.readouterr().err


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
