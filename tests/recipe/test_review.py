"""Vetoes and pins in a run folder: the next start of `select` respects them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from presel_lightning.eval.report.setup_diff import setup_differences
from presel_lightning.run.decisions import DecisionJournal
from tests.conftest import fit_arguments
from tests.recipe.test_rounds import ledger, reference, select, selected_uids

RANDOM = ["--selector", "Random", "--data.always_reference", "true"]


def decide(out: Path, **decisions: str) -> None:
    journal = DecisionJournal(out)
    for uid, decision in decisions.items():
        journal.add(uid, "image", "task", decision)  # type: ignore[arg-type]
    journal.close()


def budgets(out: Path) -> list[tuple[str, str]]:
    with (out / "selection" / "tasks.csv").open() as handle:
        return [(row["task"], row["selected"]) for row in csv.DictReader(handle)]


def test_select_again_respects_vetoes_and_pins(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    """PreSel: the paired losses and features that lie there are used again."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    before, drawn, counts = selected_uids(out), reference(out), budgets(out)
    stages = ledger(out)
    table = pq.read_table(out / "selection" / "selection.parquet").to_pylist()
    vetoed = min(before - drawn)
    task = next(row["task"] for row in table if row["uid"] == vetoed)
    pinned = max(
        (r for r in table if not r["selected"] and r["task"] == task), key=lambda r: r["rank"]
    )["uid"]
    decide(out, **{vetoed: "veto", pinned: "pin"})
    assert select(pool_folder, out) == 0
    after = selected_uids(out)
    assert len(after) == len(before) and pinned in after and vetoed not in after
    assert len(before - after) <= 2 and budgets(out) == counts and reference(out) == drawn
    found = ledger(out)
    assert (found["selection"]["vetoed"], found["selection"]["pinned"]) == (1, 1)
    (seen,) = [row["other"] for row in setup_differences(finished, out) if "person" in row["key"]]
    assert seen == f"1 vetoed, 1 pinned (decisions {found['selection']['decisions'][:8]})"
    manifest = json.loads((out / "selection" / "manifest.json").read_text())
    assert manifest["review"] == {"vetoed": 1, "pinned": 1}
    assert {s["uid"] for s in manifest["samples"]} == after
    kept = ("pool", "features", "losses", "reference")
    assert [found[name]["fingerprint"] for name in kept] == [
        stages[name]["fingerprint"] for name in kept
    ]
    page = (out / "report" / "index.html").read_text()
    assert "1 image was vetoed and 1 pinned" in page
    # taken back: what the method itself selects
    decide(out, **{vetoed: "none", pinned: "none"})
    assert select(pool_folder, out) == 0 and selected_uids(out) == before
    assert "review" not in json.loads((out / "selection" / "manifest.json").read_text())


@pytest.fixture
def run(pool_folder: Path, tmp_path: Path) -> Path:
    """A random selection beside a reference split of 9."""
    assert select(pool_folder, tmp_path / "run", *RANDOM) == 0
    return tmp_path / "run"


def test_select_again_replaces_a_vetoed_reference_sample(run: Path, pool_folder: Path) -> None:
    before, drawn = selected_uids(run), reference(run)
    vetoed = sorted(drawn)[3]
    decide(run, **{vetoed: "veto"})
    assert select(pool_folder, run, *RANDOM) == 0
    assert len(reference(run)) == 9 and drawn - reference(run) == {vetoed}
    assert len(selected_uids(run)) == len(before) and vetoed not in selected_uids(run)
    (new,) = reference(run) - drawn
    assert before - selected_uids(run) <= {vetoed, new}


def test_veto_holds_for_earlier_rounds(run: Path, pool_folder: Path) -> None:
    first = selected_uids(run)
    vetoed = min(first - reference(run))
    decide(run, **{vetoed: "veto"})
    assert select(pool_folder, run, *RANDOM, "--data.budget", "0.5") == 0
    after = selected_uids(run)
    assert len(after) == 65 and first - after == {vetoed}


def test_more_pins_than_budget_exit_with_2(
    run: Path, pool_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uids = pq.read_table(run / "pool.parquet")["uid"].to_pylist()
    decide(run, **dict.fromkeys(uids, "pin"))
    assert select(pool_folder, run, *RANDOM) == 2
    assert "pinned in review.jsonl" in capsys.readouterr().err


def test_journal_that_cannot_be_read_exits_with_2(
    run: Path, pool_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "review.jsonl").write_text("veto this one\n")
    arguments = ["select", *fit_arguments(pool_folder, run, *RANDOM)[1:]]
    assert main(arguments) == 2
    assert "line 1: not a decision" in capsys.readouterr().err
