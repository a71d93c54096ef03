"""From a selector's weights to a trained adapter, through `fit`; and back from the files of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from presel_lightning.cli.main import main
from tests.conftest import fit_arguments

SELECTOR, PATTERN = "tests.selectors.weighted.Weighted", [3.0, 1.0, 0.5]
BUDGET = 20
NAMES = ("selection/selected.json", "selection/selection.parquet", "run.json")
ADAPTER = "models/final/adapter_model.safetensors"


def fit(pool_folder: Path, out: Path, *more: str, pattern: list[float] = PATTERN) -> int:
    given = ["--selector", SELECTOR, "--selector.init_args.pattern", json.dumps(pattern)]
    given += ["--data.budget", str(BUDGET), "--benchmarks", "[]"]
    return main(fit_arguments(pool_folder, out, *given, *more, "--baselines"))


class State(NamedTuple):
    """What a fit left."""

    records: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    stages: dict[str, dict[str, Any]]
    adapter: dict[str, Any]


def state(out: Path) -> State:
    return State(
        json.loads((out / NAMES[0]).read_text()),
        pq.read_table(out / NAMES[1]).to_pylist(),
        json.loads((out / NAMES[2]).read_text())["stages"],
        load_file(out / ADAPTER),
    )


def equal(one: State, other: State) -> bool:
    return all(value.equal(other.adapter[name]) for name, value in one.adapter.items())


@pytest.fixture(scope="module")
def states(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, State]:
    """Fits one after the other in one folder."""
    out = tmp_path_factory.mktemp("weights") / "run"
    kept = out.with_name("kept.json")
    found = {}
    assert fit(pool_folder, out, pattern=[1.0]) == 0
    found["unweighted"] = state(out)
    assert fit(pool_folder, out, "--data.weights", "sample", pattern=[1.0]) == 0
    found["unweighted again"] = state(out)
    assert fit(pool_folder, out) == 0
    found["loss"] = state(out)
    shutil.copy(out / NAMES[0], kept)
    table = out.with_name("table")
    assert main(["export", "--run", str(out), "--to", "csv", "--path", str(table)]) == 0
    for path in (kept, table / "selection.csv"):
        more = ["--selector", "FromFile", "--selector.init_args.path", str(path)]
        assert fit_from_file(pool_folder, out, *more) == 0
        found[path.name] = state(out)
    assert fit(pool_folder, out, "--data.weights", "sample") == 0
    found["sample"] = state(out)
    return found


def fit_from_file(pool_folder: Path, out: Path, *more: str) -> int:
    more = (*more, "--data.budget", str(BUDGET), "--benchmarks", "[]", "--baselines")
    return main(fit_arguments(pool_folder, out, *more))


def test_weighted_selection_writes_weights_to_its_files(states: dict[str, State]) -> None:
    found = states["loss"]
    weights = [PATTERN[row % 3] if row < BUDGET else 1.0 for row in range(len(found.rows))]
    assert [row["weight"] for row in found.rows] == weights
    assert [row["selected"] for row in found.rows] == [n < BUDGET for n in range(len(found.rows))]
    by_uid = {row["uid"]: row["weight"] for row in found.rows}
    for record, plain in zip(found.records, states["unweighted"].records, strict=True):
        weight = by_uid[record["presel"]["uid"]]
        ours = plain["presel"] | ({"weight": weight} if weight != 1 else {})
        assert record == plain | {"presel": ours}
    assert {row["weight"] for row in states["unweighted"].rows} == {1.0}


@pytest.mark.parametrize("mode", ["loss", "sample"])
def test_weighted_fit_trains_another_adapter(mode: str, states: dict[str, State]) -> None:
    found, plain = states[mode], states["unweighted"]
    assert found.stages["final"]["weights"] == mode
    assert found.stages["final"]["samples"] == BUDGET
    assert found.stages["final"]["steps"] == plain.stages["final"]["steps"] == 2
    others = [other for name, other in states.items() if name in {"loss", "sample"} - {mode}]
    assert not any(equal(found, other) for other in (plain, *others))


def test_fit_with_weights_of_1_is_reused_in_either_mode(states: dict[str, State]) -> None:
    one, other = states["unweighted"].stages, states["unweighted again"].stages
    assert one["final"] == other["final"] and "weights" not in one["final"]


@pytest.mark.parametrize("name", ["kept.json", "selection.csv"])
def test_from_file_reads_weights_back_and_reuses_the_fit(
    name: str, states: dict[str, State]
) -> None:
    """The fit of the run that wrote them is then there already."""
    found, known = states[name], states["loss"]
    assert found.records == known.records
    assert [row["weight"] for row in found.rows] == [row["weight"] for row in known.rows]
    assert found.stages["final"] == known.stages["final"]


def test_fit_with_weights_of_0_exits_2_naming_the_selector(
    pool_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit(pool_folder, tmp_path / "run", pattern=[0.0]) == 2
    told = capfd.readouterr().err
    assert "selector Weighted returned a weight of 0 for all 20 selected samples" in told
    assert "Traceback" not in told
    assert not (tmp_path / "run" / "selection" / "selection.parquet").exists()


def test_baselines_beside_a_weighted_selection_are_unweighted(
    pool_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    given = ["--selector", SELECTOR, "--data.budget", "2", "--benchmarks", "[]"]
    brief = ["--trainer.max_steps", "1", "--baselines", "random"]
    assert main(fit_arguments(pool_folder, out, *given, *brief)) == 0
    stages = json.loads((out / "run.json").read_text())["stages"]
    assert stages["final"]["weights"] == "loss" and "weights" not in stages["random"]
