"""What every pass has to hold to; a new one is found by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import presel_lightning.recipe.passes as package
from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.training import recipe_from
from presel_lightning.recipe.passes import Pass
from presel_lightning.recipe.passes.base import Throughput, Work
from presel_lightning.recipe.recipe import Recipe
from presel_lightning.run.lock import leave
from presel_lightning.signals import Signal
from tests.conftest import fit_arguments

KINDS = sorted(Pass.known.values(), key=lambda kind: kind.signal.name)
MODULES = {path.stem for path in Path(package.__path__[0]).glob("*.py")} - {"__init__", "base"}
WORKS = st.builds(
    Work,
    reference=st.integers(0, 1000),
    images=st.integers(0, 1000),
    arms=st.just({"final": 100}),
    pool=st.integers(1, 1000),
)


def split(recipe: Recipe) -> np.ndarray:
    """The pool, and the reference split of a recipe, as `select` would draw it."""
    recipe.begin()
    recipe.pool()
    return recipe.split()


@pytest.fixture
def recipe(pool_folder: Path, tmp_path: Path) -> Any:
    arguments, name = find_configs(fit_arguments(pool_folder, tmp_path / "run")[1:])
    yield recipe_from("select", arguments, name)[0]
    leave()


def test_every_signal_has_a_pass_in_the_module_of_its_name() -> None:
    assert set(Pass.known) == set(Signal.known) == MODULES
    for kind in KINDS:
        assert kind.__module__ == f"presel_lightning.recipe.passes.{kind.signal.name}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.signal.name)
@given(work=WORKS)
def test_estimate_names_stages_of_the_signal(kind: type[Pass], work: Work) -> None:
    once = kind.estimate(work, Throughput())
    twice = kind.estimate(work, Throughput().scaled(1))
    assert set(once) <= set(kind.signal.artifacts)
    assert all(seconds >= 0 for seconds in once.values())
    assert all(twice[stage] <= once[stage] for stage in once)


def test_key_is_stable_and_follows_the_reference_split(recipe: Recipe) -> None:
    reference = split(recipe)
    for each in recipe.passes.values():
        assert each.key(reference) == each.key(reference)
        follows = each.key(reference[1:]) != each.key(reference)
        assert follows == each.signal.on_reference


def test_signal_that_was_not_made_has_no_key(recipe: Recipe) -> None:
    assert recipe.known_signals(split(recipe)) == {}


def test_finished_run_lists_every_stage_of_its_signals(finished: Path) -> None:
    stages = json.loads((finished / "run.json").read_text())["stages"]
    for name in ("features", "paired_loss"):
        for stage, files in Signal.known[name].artifacts.items():
            assert stages[stage]["status"] == "done"
            assert all((finished / file).exists() for file in files)
