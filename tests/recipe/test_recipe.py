"""The whole recipe, through the command line."""

from __future__ import annotations

import csv
import json
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from presel_lightning.recipe import recipe
from presel_lightning.run.files import UMASK
from tests.conftest import N_POOL, SIZES, benchmark_arguments, fit_arguments, scores
from tests.ranks import run_on_two

FILES = [
    "config.yaml",
    "run.json",
    "pool.parquet",
    "problems.csv",
    "reference.json",
    "signals/paired_loss.parquet",
    "signals/features/features.npy",
    "signals/features/uid.npy",
    "signals/features/meta.json",
    "selection/selection.parquet",
    "selection/tasks.csv",
    "selection/selected.json",
    "selection/requests.jsonl",
    "selection/requests.csv",
    "selection/prompts.json",
    "models/reference/adapter_model.safetensors",
    "models/final/adapter_model.safetensors",
    "models/final/tokenizer.json",
    "benchmark.json",
    "report/index.html",
    "report/report.json",
]

REFERENCE, BUDGET = 9, round(0.25 * N_POOL)


def stages(out: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((out / "run.json").read_text())["stages"]
    return found


def selection_bytes(out: Path) -> dict[str, bytes]:
    names = ("selection.parquet", "selected.json")
    return {name: (out / "selection" / name).read_bytes() for name in names}


def test_fit_writes_every_documented_file(finished: Path) -> None:
    assert [name for name in FILES if not (finished / name).exists()] == []


def test_fit_leaves_files_with_the_permissions_of_any_new_file(finished: Path) -> None:
    """Not with those of a temporary file, which others of a group could not read."""
    expected = {True: 0o777 & ~UMASK, False: 0o666 & ~UMASK}
    wrong = {
        path.relative_to(finished).as_posix(): oct(mode)
        for path in [finished, *finished.rglob("*")]
        if (mode := stat.S_IMODE(path.stat().st_mode)) != expected[path.is_dir()]
    }
    assert wrong == {}


def test_fit_shows_which_stage_of_how_many_runs_and_the_time_left(finished_log: list[str]) -> None:
    lines = [line.strip() for line in finished_log if line.strip().startswith("stage ")]
    first: dict[str, str] = {}  # a long stage has a line a minute
    for line in lines:
        first.setdefault(line.partition(":")[0], line)
    assert [*first] == [
        "stage 3 of 11, reference",
        "stage 4 of 11, losses",
        "stage 5 of 11, features",
        "stage 8 of 11, final",
        "stage 9 of 11, random",
        "stage 10 of 11, full",
        "stage 11 of 11, benchmarks",
    ]
    shown = [*first.values()]
    assert "about" not in shown[0], "nothing was seen yet"
    assert re.fullmatch(r".*: about \d+ \w+ left \(not counted yet: features, scoring\)", shown[2])
    assert re.fullmatch(r".*: about \d+ \w+ left", shown[4])


def test_fit_meets_the_budget_exactly(finished: Path) -> None:
    table = pq.read_table(finished / "selection" / "selection.parquet").to_pylist()
    chosen = {row["uid"] for row in table if row["selected"]}
    reference = {r["uid"] for r in json.loads((finished / "reference.json").read_text())}
    selected = {
        r["uid"] for r in json.loads((finished / "selection" / "selected.json").read_text())
    }
    assert len(table) == N_POOL and len(chosen) == BUDGET and len(reference) == REFERENCE
    assert reference < chosen == selected
    with (finished / "selection" / "tasks.csv").open() as handle:
        tasks = {row["task"]: row for row in csv.DictReader(handle)}
    assert {task: int(row["size"]) for task, row in tasks.items()} == SIZES
    assert sum(int(row["selected"]) for row in tasks.values()) == BUDGET
    assert sum(int(row["budget"]) for row in tasks.values()) == BUDGET - REFERENCE
    assert sum(float(row["weight"]) for row in tasks.values()) == pytest.approx(1)


def test_fit_signals_hold_valid_losses_and_features(finished: Path) -> None:
    losses = pq.read_table(finished / "signals" / "paired_loss.parquet").to_pylist()
    assert len(losses) == REFERENCE
    for row in losses:
        ratio = row["loss_with_question"] / row["loss_without_question"]
        assert row["irs"] == pytest.approx(ratio, rel=1e-5)
    features = np.load(finished / "signals" / "features" / "features.npy")
    assert features.shape[0] == N_POOL
    np.testing.assert_allclose(np.linalg.norm(features.astype(np.float64), axis=1), 1, atol=1e-3)


def test_fit_scores_all_arms(finished: Path) -> None:
    table = scores(finished)
    assert set(table) == {"final", "untrained", "random", "full"}
    assert table["full"]["relative"] in (None, 100.0)
    assert all(0 <= row["tiny"] <= 100 for row in table.values())
    facts = stages(finished)
    assert facts["final"]["samples"] == facts["random"]["samples"] == BUDGET
    assert facts["full"]["samples"] == N_POOL


def test_fit_second_run_reuses_every_stage(
    finished: Path, pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(finished, tmp_path / "moved")
    before = stages(out)
    assert main(fit_arguments(pool_folder, out, *benchmark_arguments(pool_folder))) == 0
    assert stages(out) == before  # the run folder was even moved
    assert capsys.readouterr().out.count("reused") == len(before)


def test_fit_ended_while_it_reports_is_not_done_before_all_is_written(
    finished: Path, pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`compare` takes a cell that is done as it is."""

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    out = shutil.copytree(finished, tmp_path / "run")
    card = out / "models" / "final" / "README.md"
    card.write_text("without scores")
    command = fit_arguments(pool_folder, out, *benchmark_arguments(pool_folder))
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "write_cards", ended)
        assert main(command) == 130
    assert json.loads((out / "run.json").read_text())["state"] != "done"
    assert json.loads((out / "report" / "report.json").read_text())["state"] == "done"
    assert main(command) == 0
    assert json.loads((out / "run.json").read_text())["state"] == "done"
    assert card.read_text() != "without scores"


def test_fit_with_another_budget_reruns_only_dependent_stages(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    before = stages(out)
    more = [*benchmark_arguments(pool_folder), "--data.budget", "0.3", "--baselines", "untrained"]
    assert main(fit_arguments(pool_folder, out, *more)) == 0
    after = stages(out)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"selection", "instructions", "final", "benchmarks"}
    assert len(json.loads((out / "selection" / "selected.json").read_text())) == round(0.3 * N_POOL)


def test_fit_benchmarks_depend_on_arms_and_full_scores(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    more = benchmark_arguments(pool_folder)
    assert main(fit_arguments(pool_folder, out, *more, "--baselines")) == 0
    assert set(scores(out)) == {"final"} and scores(out)["final"]["relative"] is None
    assert main(fit_arguments(pool_folder, out, *more, "--baselines", "full")) == 0
    assert set(scores(out)) == {"final", "full"}  # of models that were there all along
    elsewhere = tmp_path / "full.json"
    for best in (50.0, 80.0):
        elsewhere.write_text(json.dumps({"tiny": best}))
        given = [*more, "--baselines", "--full_scores", str(elsewhere)]
        assert main(fit_arguments(pool_folder, out, *given)) == 0
        final = scores(out)["final"]
        assert final["relative"] == pytest.approx(100 * final["tiny"] / best)


def test_report_command_rewrites_the_report(finished: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(out / "report")
    assert main(["report", "--run", str(out)]) == 0
    assert (out / "report" / "index.html").is_file()


def test_evaluate_of_final_checkpoint_matches_the_fit_score(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    checkpoint = ["--checkpoint", str(finished / "models" / "final")]
    arguments = fit_arguments(pool_folder, tmp_path, *benchmark_arguments(pool_folder), *checkpoint)
    assert main(["evaluate", *arguments[1:]]) == 0
    found = json.loads((tmp_path / "work" / "scores" / "evaluate-final.json").read_text())
    known = json.loads((finished / "work" / "scores" / "final.json").read_text())
    assert found["benchmarks"]["tiny"]["score"] == known["benchmarks"]["tiny"]["score"]


def test_select_random_needs_no_reference_model(pool_folder: Path, tmp_path: Path) -> None:
    arguments = fit_arguments(pool_folder, tmp_path, "--selector", "Random")
    assert main(["select", *arguments[1:]]) == 0
    assert "reference" not in stages(tmp_path) and "features" not in stages(tmp_path)
    assert (tmp_path / "report" / "index.html").is_file()
    assert len(json.loads((tmp_path / "selection" / "selected.json").read_text())) == BUDGET


def test_fit_without_instructions_exits_with_3_and_requests_them(
    pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = json.loads((pool_folder / "train.json").read_text())
    for record in records:
        del record["conversations"]
    (tmp_path / "bare.json").write_text(json.dumps(records))
    out = tmp_path / "run"
    source = [
        "--data.annotations",
        str(tmp_path / "bare.json"),
        "--data.image_root",
        str(pool_folder),
    ]
    assert main(fit_arguments(pool_folder, out, *source)) == 3
    named = re.findall(r"see (\S+\.md)", capsys.readouterr().err)
    assert named and all(Path(page).is_file() for page in named)
    requests = (out / "selection" / "requests.jsonl").read_text().splitlines()
    assert len(requests) == REFERENCE
    # the answers come, under the same uids: the run goes on to ask for the rest
    asked = {json.loads(line)["uid"] for line in requests}
    uids = {row["image"]: row["uid"] for row in pq.read_table(out / "pool.parquet").to_pylist()}
    whole = {r["image"]: r for r in json.loads((pool_folder / "train.json").read_text())}
    answered = [whole[r["image"]] if uids[r["image"]] in asked else r for r in records]
    (tmp_path / "bare.json").write_text(json.dumps(answered))
    assert main(fit_arguments(pool_folder, out, *source)) == 3
    requests = (out / "selection" / "requests.jsonl").read_text().splitlines()
    assert len(requests) == BUDGET - REFERENCE
    assert not asked & {json.loads(line)["uid"] for line in requests}
    # the report shows what was selected, and the table can be filled in
    assert "waits for instructions" in (out / "report" / "index.html").read_text()
    with (out / "selection" / "requests.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["uid"] for row in rows} == {json.loads(line)["uid"] for line in requests}
    assert all(Path(row["file"]).is_file() and not row["question"] for row in rows)
    for row in rows:
        turns = [turn["value"] for turn in whole[row["image"]]["conversations"]]
        row |= {"question": turns[0], "answer": turns[1]}
    with (tmp_path / "filled.csv").open("w", newline="") as handle:
        table = csv.DictWriter(handle, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    filled = ["--annotator", "FromFile", "--annotator.init_args.path", str(tmp_path / "filled.csv")]
    assert main(["select", *fit_arguments(pool_folder, out, *source, *filled)[1:]]) == 0
    assert (out / "selection" / "requests.csv").read_text().count("\n") == 1
    assert len(json.loads((out / "selection" / "selected.json").read_text())) == BUDGET


@pytest.mark.slow
def test_select_on_two_processes_matches_one(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    """With one block for both; blocks for each are those of `tests/tasks/test_strategies.py`."""
    more = ["--trainer.strategy", "ddp", "--data.block_size", "32", "--baselines"]
    arguments = fit_arguments(pool_folder, tmp_path / "run", *more)
    run_on_two(["select", *arguments[1:]], tmp_path / "log")
    assert selection_bytes(tmp_path / "run") == selection_bytes(finished)
