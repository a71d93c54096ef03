"""A comparison through the command line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from presel_lightning.eval.comparison.cells import COLUMNS
from tests.conftest import N_POOL, benchmark_arguments, fit_arguments, start

CELLS = [f"{selector}-0.25-{seed}" for seed in (0, 1) for selector in ("PreSel", "Random")]
CELLS += ["full-1-0", "full-1-1"]
HELD = Path(__file__).with_name("held_comparison.py")
BUDGET, REFERENCE = round(0.25 * N_POOL), 9


def arguments_of(pool_folder: Path, out: Path, *more: str) -> list[str]:
    """Two selectors, one budget, two seeds, one epoch."""
    counted = ["--data.count_key", "task"]
    given = fit_arguments(pool_folder, out, *benchmark_arguments(pool_folder), *counted)[1:]
    grid = ["--selectors", "PreSel", "Random", "--seeds", "0", "1", "--workers", "2"]
    return ["compare", *given, *grid, *more]


@pytest.fixture(scope="session")
def compared(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison."""
    out = tmp_path_factory.mktemp("compared") / "run"
    with out.with_name("log").open("w", encoding="utf-8") as handle, redirect_stdout(handle):
        assert main(arguments_of(pool_folder, out)) == 0
    return out


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle))


def stages(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((folder / "run.json").read_text())["stages"]
    return found


def reference(folder: Path) -> set[str]:
    return {record["uid"] for record in json.loads((folder / "reference.json").read_text())}


def selected_uids(folder: Path) -> set[str]:
    table = pq.read_table(folder / "selection" / "selection.parquet").to_pylist()
    return {row["uid"] for row in table if row["selected"]}


def test_comparison_csv_matches_the_cells(compared: Path) -> None:
    rows = read(compared / "comparison.csv")
    assert tuple(rows[0]) == COLUMNS
    assert sorted(path.name for path in (compared / "cells").iterdir()) == sorted(CELLS)
    by_cell = {(row["selector"], row["seed"]): row for row in rows}
    assert len(rows) == len(by_cell) == len(CELLS) + 1
    for name in CELLS:
        selector, budget, seed = name.split("-")
        row, folder = by_cell[selector, seed], compared / "cells" / name
        score = json.loads((folder / "benchmark.json").read_text())["final"]["tiny"]
        full = json.loads((compared / "cells" / f"full-1-{seed}" / "benchmark.json").read_text())
        best = full["final"]["tiny"]
        assert row["benchmark"] == "tiny" and float(row["score"]) == score
        assert float(row["budget"]) == float(budget)
        if best > 0:
            assert float(row["relative"]) == pytest.approx(100 * score / best)
        else:  # nothing to be relative to
            assert row["relative"] == ""
        n = N_POOL if selector == "full" else BUDGET
        assert row["train_samples"] == row["instructions"] == str(n)
        if selector != "full":
            took = stages(folder)
            needed = ("features", "reference", "losses") if selector == "PreSel" else ()
            seconds = sum(float(str(took[stage]["seconds"])) for stage in ("selection", *needed))
            assert float(row["selection_seconds"]) == pytest.approx(seconds, abs=1e-3)
    untrained = json.loads((compared / "benchmark.json").read_text())["untrained"]["tiny"]
    assert float(by_cell["untrained", ""]["score"]) == untrained


def test_compare_shows_what_is_done_what_is_to_go_and_the_time_left(compared: Path) -> None:
    lines = compared.with_name("log").read_text(encoding="utf-8").splitlines()
    assert "  2 reference splits to do, 2 at a time" in lines
    ended = [line for line in lines if line.startswith("✓ ") and " of 6 cells" in line]
    assert len(ended) == 6
    for number, line in enumerate(ended, start=1):
        assert f"{number} of 6 cells, {6 - number} to go" in line
        assert ("about" in line) == (number < 6)
    (first,) = (line for line in lines if "1 of 2 reference splits" in line)
    assert first.endswith("left (not counted yet: cells)")


def test_cells_of_one_seed_share_the_reference_split(compared: Path) -> None:
    splits: dict[str, set[str]] = {}
    for name in CELLS:
        folder = compared / "cells" / name
        seed = name.split("-")[-1]
        splits.setdefault(seed, reference(folder))
        assert reference(folder) == splits[seed] <= selected_uids(folder)
        assert len(selected_uids(folder)) == (N_POOL if name.startswith("full") else BUDGET)
    assert len(splits["0"]) == len(splits["1"]) == REFERENCE and splits["0"] != splits["1"]


def test_random_cell_fills_its_reference_split_up_in_the_order_of_fits_random_arm(
    finished: Path, compared: Path, pool_folder: Path, tmp_path: Path
) -> None:
    """`fit --selector Random` trains the very model of the arm `random`, so its images are that arm's."""
    out = tmp_path / "run"
    more = ["--selector", "Random", "--baselines", "[]"]
    assert main(fit_arguments(pool_folder, out, *more)) == 0
    weights = "adapter_model.safetensors"
    arm = (finished / "models" / "random" / weights).read_bytes()
    assert (out / "models" / "final" / weights).read_bytes() == arm
    cell = compared / "cells" / "Random-0.25-0"
    ours, theirs = selected_uids(out), selected_uids(cell)
    assert len(ours) == len(theirs) == BUDGET and ours != theirs
    assert theirs - reference(cell) <= ours
    for page in (finished, compared):
        text = (page / "report" / "index.html").read_text()
        assert "with the same seed" in text and "in the same random order" in text


def test_shared_stages_are_linked_instead_of_recomputed(compared: Path) -> None:
    for name in CELLS:
        folder, seed = compared / "cells" / name, name.split("-")[-1]
        shared = compared / "references" / seed
        for file in ("reference.json", "models/reference", "signals/paired_loss.parquet"):
            assert (folder / file).is_symlink() and (folder / file).samefile(shared / file)
        assert (folder / "signals/features").samefile(compared / "signals/features")
        assert (folder / "pool.parquet").samefile(compared / "pool.parquet")
        log = (folder / "log.txt").read_text()
        for stage in ("pool", "split"):
            assert f"· {stage}" in log
        if name.startswith("PreSel"):
            assert "· features" in log and "· losses" in log and "· reference" in log


def test_each_cell_is_a_complete_run_with_a_report(compared: Path) -> None:
    for name in CELLS:
        folder = compared / "cells" / name
        assert (folder / "report" / "index.html").is_file()
        assert main(["report", "--run", str(folder)]) == 0


def test_comparison_report_lists_methods_and_intervals(compared: Path) -> None:
    report = json.loads((compared / "report" / "report.json").read_text())
    (part,) = report["parts"]
    assert [row["selector"] for row in part["rows"]] == ["full", "PreSel", "Random", "untrained"]
    (row,) = part["differences"]
    assert (row["selector"], row["n"]) == ("PreSel", 2)
    assert report["verdict"][0].startswith("PreSel")
    assert 0 < part["overlap"][0]["jaccard"] < 1
    assert {row["task"] for row in part["tasks"]} == {"colour", "shape", "count", "caption"}


def mtimes(out: Path) -> dict[str, int]:
    """When the results of cells and references were written."""
    files = [
        *out.glob("cells/*/benchmark.json"),
        *out.glob("cells/*/models/final/*"),
        *out.glob("cells/*/log.txt"),
        *out.glob("references/*/signals/*"),
        *out.glob("references/*/log.txt"),
    ]
    return {str(path): path.stat().st_mtime_ns for path in files}


def test_comparison_counts_the_values_of_a_field(compared: Path) -> None:
    """Those of the tasks are the counts that each cell lists."""
    part = json.loads((compared / "report" / "report.json").read_text())["parts"][0]
    counted = part["field_counts"]
    assert counted["field"] == "task"
    for value in counted["values"]:
        tables = {
            name: [read(compared / "cells" / f"{name}-0.25-{seed}/selection/tasks.csv") for seed in (0, 1)]
            for name in ("PreSel", "Random")
        }  # fmt: skip
        own = {
            name: [int(r["selected"]) - int(r["reference"]) for t in both for r in t if r["task"] == value["value"]]
            for name, both in tables.items()
        }  # fmt: skip
        for row in value["rows"]:
            assert row["count"][0] == sum(own[row["selector"]]) / 2
            if row["selector"] == "PreSel":
                assert row["mean"] == pytest.approx((sum(own["PreSel"]) - sum(own["Random"])) / 2)
    assert "Selected samples by" in (compared / "report" / "index.html").read_text()


def test_compare_second_call_reuses_everything(compared: Path, pool_folder: Path) -> None:
    before, table = mtimes(compared), (compared / "comparison.csv").read_bytes()
    assert main(arguments_of(pool_folder, compared)) == 0
    assert mtimes(compared) == before and len(before) > 20
    assert (compared / "comparison.csv").read_bytes() == table


def processes_of(session: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_killed_compare_leaves_no_process_and_resumes(
    compared: Path, pool_folder: Path, tmp_path: Path
) -> None:
    """One seed of the two is enough."""
    out, log = tmp_path / "run", tmp_path / "log"
    arguments = arguments_of(pool_folder, out, "--seeds", "0")
    process = start(arguments, log, HELD)
    done: list[Path] = []
    while not done:
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
        done = list(out.glob("cells/*/report/index.html"))
    assert len(processes_of(process.pid)) > 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 240
    while left := processes_of(process.pid):
        assert time.monotonic() < end, left
        time.sleep(0.1)
    first = done[0].parent.parent
    finished = {path: path.stat().st_mtime_ns for path in (first / "models" / "final").iterdir()}
    assert not (out / "comparison.csv").exists()
    assert start(arguments, log).wait() == 0, log.read_text()
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    found, expected = (
        {
            (row["selector"], row["seed"]): row["score"]
            for row in read(folder / "comparison.csv")
            if row["seed"] != "1"
        }
        for folder in (out, compared)
    )
    assert found == expected and len(found) == 4
    cells = [name for name in CELLS if name.endswith("-0")]
    assert sorted(path.name for path in (out / "cells").iterdir()) == sorted(cells)
    for name in cells:
        assert selected_uids(out / "cells" / name) == selected_uids(compared / "cells" / name)


BROKEN = '''
from presel_lightning.selectors import Random


class Broken(Random):
    """Fails when it is asked."""

    def select(self, pool, signals, budget, *, seed):
        if seed == 1:
            raise RuntimeError("the disk of seed one is on fire")
        return super().select(pool, signals, budget, seed=seed)
'''


def test_compare_failed_cell_does_not_stop_the_others(
    pool_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "broken_selector.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "run"
    given = fit_arguments(pool_folder, out, *benchmark_arguments(pool_folder))[1:]
    grid = ["--selectors", "broken_selector.Broken", "Random", "--seeds", "1", "0"]
    assert main(["compare", *given, *grid, "--data.budget", "0.1", "--workers", "2"]) == 1
    log = out / "cells" / "Broken-0.1-1" / "log.txt"
    assert "RuntimeError: the disk of seed one is on fire" in log.read_text()
    told = capfd.readouterr().err.splitlines()
    assert "Broken-0.1-1 did not end: " in told[-1] and "the disk of seed one" in told[-1]
    assert str(log) in told[-1] and not any("Traceback" in line for line in told)
    rows = {(row["selector"], row["seed"]) for row in read(out / "comparison.csv")}
    both = {(name, seed) for name in ("Random", "full") for seed in "01"}
    assert rows == {*both, ("Broken", "0"), ("untrained", "")}
    assert json.loads((out / "run.json").read_text())["state"] == "incomplete"
    report = json.loads((out / "report" / "report.json").read_text())
    assert [row["n"] for row in report["parts"][0]["differences"]] == [1]


@pytest.fixture(scope="module")
def equal_steps(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison at equal steps whose instructions come from an annotator."""
    out = tmp_path_factory.mktemp("equal_steps") / "run"
    given = fit_arguments(pool_folder, out, *benchmark_arguments(pool_folder))[1:]
    grid = ["--selectors", "PreSel", "--seeds", "0", "--equal", "steps", "--annotator", "FromPool"]
    assert main(["compare", *given, *grid, "--workers", "1"]) == 0
    return out


def test_compare_equal_steps_match_full_data(equal_steps: Path) -> None:
    steps = {
        name: stages(equal_steps / "cells" / f"{name}-0")["final"]["steps"]
        for name in ("PreSel-0.25", "full-1")
    }
    assert steps == {"PreSel-0.25": 9, "full-1": 9}  # 130 samples in batches of 16
    assert stages(equal_steps / "cells" / "PreSel-0.25-0")["final"]["samples"] == BUDGET


def test_compare_changed_benchmark_file_is_scored_again(pool_folder: Path, tmp_path: Path) -> None:
    pool, out = shutil.copytree(pool_folder, tmp_path / "pool"), tmp_path / "run"
    given = fit_arguments(pool, out, *benchmark_arguments(pool))[1:]
    command = ["compare", *given, "--selectors", "Random", "--seeds", "0", "--workers", "1"]
    (tmp_path / "full.json").write_text(json.dumps({"tiny": 50.0}))
    command += ["--full_scores", str(tmp_path / "full.json")]
    assert main(command) == 0
    scored = out / "cells" / "Random-0.25-0" / "work" / "scores" / "final.json"
    assert json.loads(scored.read_text())["benchmarks"]["tiny"]["n"] == 16
    items = json.loads((pool / "test.json").read_text())
    (pool / "test.json").write_text(json.dumps(items[:7]))
    model = scored.parents[2] / "models" / "final" / "adapter_model.safetensors"
    fitted = model.stat().st_mtime_ns
    assert main(command) == 0
    assert json.loads(scored.read_text())["benchmarks"]["tiny"]["n"] == 7
    assert model.stat().st_mtime_ns == fitted


def test_compare_annotates_the_reference_split_once(equal_steps: Path) -> None:
    out, shared = equal_steps, equal_steps / "references" / "0"
    for name, size in (("PreSel-0.25-0", BUDGET), ("full-1-0", N_POOL)):
        folder = out / "cells" / name
        assert (folder / "models" / "reference").samefile(shared / "models" / "reference")
        log = (folder / "annotations" / "access.jsonl").read_text().splitlines()
        why = [json.loads(line)["why"] for line in log]
        assert why.count("reference split") == REFERENCE and len(why) == size
    assert "· reference" in (out / "cells" / "PreSel-0.25-0" / "log.txt").read_text()


def test_compare_full_data_without_instructions_is_skipped(
    pool_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the image encoder of `photos.yaml`, whichever can be had here."""
    pool, out = shutil.copytree(pool_folder, tmp_path / "pool"), tmp_path / "run"
    records = json.loads((pool / "train.json").read_text())
    records = records[:48]
    for record in records:
        del record["conversations"]
    (pool / "train.json").write_text(json.dumps(records))
    given = fit_arguments(pool, out, *benchmark_arguments(pool))[1:]
    grid = ["--selectors", "Medoids", "Random", "--seeds", "0", "--workers", "1"]
    encoder = ["--stages.features.model", "{checkpoint: auto}"]
    assert main(["compare", *given, *grid, *encoder]) == 3
    said = capfd.readouterr()
    assert "full left out" in said.out
    assert "run `compare` again with --annotator FromFile" in said.err and "review" not in said.err
    cells = sorted((out / "cells").iterdir())
    assert [path.name for path in cells] == ["Medoids-0.25-0", "Random-0.25-0"]
    # one table of what both ask for, each image once
    table = out / "requests.csv"
    asked = [rows_of(cell / "selection" / "requests.csv") for cell in cells]
    rows = rows_of(table)
    assert {row["uid"] for row in rows} == {row["uid"] for each in asked for row in each}
    assert max(map(len, asked)) < len(rows) == len({row["uid"] for row in rows})
    assert str(table) in said.err
    for row in rows:
        row |= {"question": "Which?", "answer": "blue"}
    with table.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    given = [*given, "--annotator", "FromFile", "--annotator.init_args.path", str(table)]
    assert main(["compare", *given, *grid, *encoder]) == 0
    assert rows_of(table) == rows


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--equal", "steps", "--trainer.max_epochs", "-1"], "set one of them to 1 or more"),
        (["--selectors", "Random", "Random"], "Random comes twice"),
        (["--selectors", "Nothing"], "Nothing"),
        (["--seeds", "1", "1"], "seeds and budgets must not repeat"),
        (["--benchmarks", "[]"], "are compared on, such as --benchmarks+ AnnotationFile"),
        (["--annotator", "LabelStudio"], "--annotator FromFile"),
        (["--budgets", "7000"], "7000"),
        (["--pools", "nowhere.json"], "pools nowhere.json: no such file or folder"),
        (["--pools", "x" * 5000], "no such file or folder"),
        (["--pools", "tests", "tests/"], "would share a folder of results"),
        (["--budgets", "8", "40"], "budgets: 8 (8 samples) is less than data.reference"),
    ],
)
def test_compare_invalid_grid_exits_before_training(
    more: list[str],
    message: str,
    pool_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments_of(pool_folder, tmp_path / "run", *more)) == 2
    told = capfd.readouterr().err
    assert message in told and "Traceback" not in told
    assert not (tmp_path / "run" / "cells").exists()
