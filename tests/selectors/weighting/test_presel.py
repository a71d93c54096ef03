"""The rules as parts of PreSel, and the warnings about the paper's."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch

from presel_lightning.cli.main import main
from presel_lightning.functional import allocate
from presel_lightning.selectors import PreSel
from presel_lightning.selectors.weighting import (
    IRS,
    WEIGHTINGS,
    Headroom,
    Size,
    TaskFacts,
    Uniform,
    weighting_of,
)
from presel_lightning.selectors.weighting.doubts import doubts_of_irs, on_solved_tasks
from presel_lightning.selectors.within import RandomOrder
from presel_lightning.signals import HeldOutLoss, PairedLoss
from tests.conftest import N_POOL, fit_arguments
from tests.selectors.pools import Pair
from tests.selectors.weighting import measured
from tests.selectors.weighting.measured import facts_of


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_presel_budgets_match_the_weighting_rule(name: str, pair: Pair) -> None:
    pool, signals = pair
    chosen = PreSel(weighting=name, within="random").select(pool, signals, 40, seed=0)
    facts = TaskFacts(pool, signals)
    weights = weighting_of(name).weights(facts, 40)
    free = (facts.sizes - facts.reference).long()
    expected = allocate(weights, free, 40).tolist()
    assert list(chosen.budgets.values()) == expected
    assert Counter(pool.task[pool.rows(chosen.uids)].tolist()) == Counter(
        {task: n for task, n in zip(pool.tasks, expected, strict=True) if n}
    )
    assert sum(chosen.task_weights.values()) == pytest.approx(1)


def test_presel_needs_the_signals_of_the_weighting_rule() -> None:
    for name, rule in WEIGHTINGS.items():
        assert set(rule.needs) < set(PreSel(weighting=name).needs)
    assert PairedLoss.name not in PreSel(weighting="headroom").needs
    assert HeldOutLoss.name not in PreSel(weighting="size").needs
    assert PreSel(Size(cap_flat=True)).needs.count(HeldOutLoss.name) == 1
    assert PreSel(Headroom(cap_flat=True)).needs.count(HeldOutLoss.name) == 1


def test_presel_floor_and_priors_change_the_budgets(pair: Pair) -> None:
    pool, signals = pair
    none = PreSel(Uniform(priors={"twins": 0})).select(pool, signals, 40, seed=0)
    assert none.budgets["twins"] == 0 and len(none.uids) == 40
    paper = PreSel().select(pool, signals, 40, seed=0)
    even = PreSel(IRS(floor=1.0)).select(pool, signals, 40, seed=0)
    assert min(even.task_weights.values()) > min(paper.task_weights.values())


def test_presel_random_samples_are_nested_across_rules(pair: Pair) -> None:
    """A larger budget adds to a smaller one, so that rules differ in how many alone."""
    pool, signals = pair
    kept = {}
    for name in ("size", "uniform"):
        method = PreSel(name, RandomOrder(images_per_cluster=1000))
        kept[name] = set(method.select(pool, signals, 40, seed=3).uids)
    for task in pool.tasks:
        own = set(pool.uid[pool.task_rows(task)])
        one, other = (chosen & own for chosen in kept.values())
        assert one <= other or other <= one


def test_doubts_of_irs_name_tasks_with_irs_above_one(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, irs={**measured.IRS, "noisy": [1.4, 1.0], "hard": [0.9, 1.1]})
    facts.signals.of(HeldOutLoss).path.unlink()
    few, text = doubts_of_irs(facts, torch.ones(3))
    assert "hard, noisy is a mean of fewer than 4" in few
    assert "above 1 in noisy (1.20): " in text and "hard (" not in text


def test_on_solved_tasks_warns_only_with_matching_held_out(tmp_path: Path) -> None:
    right = {"easy": [1, 1, 1, 1], "hard": [0, 0], "noisy": [0, 1]}  # easy: .5 / 5
    facts = facts_of(tmp_path, correct=right, irs={**measured.IRS, "noisy": [0.5, 0.5]})
    assert on_solved_tasks(facts, torch.tensor([0.5, 0.3, 0.2])) == []
    (text,) = on_solved_tasks(facts, torch.tensor([0.6, 0.2, 0.2]))
    assert text in doubts_of_irs(facts, torch.tensor([0.6, 0.2, 0.2]))
    assert text.startswith("60 % of the IRS weight is on tasks with a held-out error under 0.25")
    assert "(easy)" in text
    # of another reference split nothing is known
    fewer = facts.pool.with_reference(facts.pool.uid[np.flatnonzero(facts.pool.reference)[1:]])
    assert on_solved_tasks(TaskFacts(fewer, facts.signals), torch.tensor([0.6, 0.2, 0.2])) == []


def test_presel_selection_meta_holds_the_warnings(pair: Pair) -> None:
    pool, signals = pair
    (few,) = PreSel().select(pool, signals, 9, seed=0).meta["warnings"]
    assert "is a mean of fewer than 4 reference samples" in few  # and every IRS is below 1
    facts = TaskFacts(pool, signals)
    assert not on_solved_tasks(facts, torch.tensor([0.1, 0.1, 0.8], dtype=torch.float64))


def test_select_runs_with_every_weighting_rule(
    finished: Path, pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over one run folder: the two halves are fitted for the first weighting that needs them."""
    rules = cycle(["centrality", "Coverage", "RandomOrder"])
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    for name in WEIGHTINGS:
        arguments = ["select", *fit_arguments(pool_folder, out)[1:], "--baselines"]
        arguments += ["--selector", "PreSel", "--selector.init_args.weighting", name]
        arguments += ["--selector.init_args.within", next(rules)]
        assert main([*arguments, "--data.always_reference", "true"]) == 0, name
        run = json.loads((out / "run.json").read_text())
        assert run["counts"]["trained_on"] == round(0.25 * N_POOL)
        chosen = json.loads((out / "selection" / "selected.json").read_text())
        assert len(chosen) == round(0.25 * N_POOL)
        if (path := out / "signals" / "held_out_loss.parquet").exists():
            made = path.stat().st_mtime_ns
            assert run["stages"]["held_out"]["samples"] == 9
    assert made == path.stat().st_mtime_ns
    printed = capsys.readouterr().out
    told = run["stages"]["selection"].get("warnings", [])
    assert all(text.split(":")[0] in printed.replace("\n", " ") for text in told)
