"""The work that a run plans for its fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.training import recipe_from
from presel_lightning.recipe.recipe import Recipe
from presel_lightning.run.lock import leave
from presel_lightning.run.time_left import PlannedWork
from tests.conftest import benchmark_arguments, fit_arguments


def recipe_of(pool_folder: Path, out: Path, *more: str) -> Recipe:
    words, name = find_configs(fit_arguments(pool_folder, out, *more)[1:])
    recipe, _ = recipe_from("fit", words, name)
    leave()
    return recipe


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ([], 3),
        (["--trainer.max_epochs", "4"], 12),
        (["--trainer.max_steps", "2"], 2),
        (["--trainer.max_steps", "7", "--trainer.max_epochs", "-1"], 7),
        (["--stages.final.trainer", "{max_epochs: 2}"], 6),
        (["--data.batch_size", "10"], 4),
    ],
)
def test_planned_steps_follow_epochs_batch_size_and_limit(
    options: list[str], steps: int, pool_folder: Path, tmp_path: Path
) -> None:
    fits = recipe_of(pool_folder, tmp_path, *options).fits
    assert fits.planned_steps("final", 33) == steps  # batches of 16


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ([], "fit"),
        (["--stages.final.model", "{lr: 0.1}"], "fit"),
        (["--stages.final.model", "{tune: full}"], "fit of final"),
        (["--stages.reference.trainer", "{precision: bf16-mixed}"], "fit of final"),
    ],
)
def test_steps_of_both_stages_are_of_one_kind_where_they_tune_alike(
    options: list[str], kind: str, pool_folder: Path, tmp_path: Path
) -> None:
    more = [*benchmark_arguments(pool_folder), *options]
    fits = recipe_of(pool_folder, tmp_path, *more).fits
    scored = [PlannedWork("final", kind, 3), PlannedWork("final", "scoring", 1)]
    assert fits.planned_work("final", 33, stage="final", is_arm=True) == scored
    assert fits.planned_work("half", 33, stage="final", is_arm=False) == [
        PlannedWork("half", kind, 3)
    ]
