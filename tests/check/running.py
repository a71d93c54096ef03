"""A check of the small pool, and what its report says."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from presel_lightning.check import Report, check
from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.training import recipe_from
from presel_lightning.errors import UserError
from presel_lightning.recipe.recipe import Recipe
from tests.conftest import fit_arguments


def recipe_of(pool_folder: Path, out: Path, *more: str) -> Recipe:
    words, name = find_configs(fit_arguments(pool_folder, out, *more)[1:])
    return recipe_from("fit", words, name)[0]


def run_check(recipe: Recipe, **options: Any) -> tuple[Report, str]:
    """The report, and what was on the screen."""
    console = Console(file=io.StringIO(), width=120)
    report = check(recipe.plan, recipe.factory, console, **options)
    return report, console.file.getvalue()  # type: ignore[attr-defined]


def figure(report: Report, section: str, what: str) -> str:
    return dict(report.facts[section])[what]


def refused(recipe: Recipe) -> str:
    with pytest.raises(UserError) as error:
        run_check(recipe)
    assert error.value.exit_code == 2 and "\n" not in str(error.value)
    return str(error.value)


def records_of(pool_folder: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((pool_folder / "train.json").read_text())
    return records


def rewrite(pool_folder: Path, folder: Path, change: Any) -> list[str]:
    """Options for the pool with its records changed, the images where they are."""
    records = records_of(pool_folder)
    path = folder / "changed.json"
    path.write_text(json.dumps(change(records)))
    return ["--data.annotations", str(path), "--data.image_root", str(pool_folder)]
