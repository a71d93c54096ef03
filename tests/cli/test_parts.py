from __future__ import annotations

from pathlib import Path
from typing import Any

from presel_lightning.cli.training import recipe_from
from presel_lightning.compare.cells import resolved
from presel_lightning.run.lock import leave

WATCHING = """[
  {class_path: presel_lightning.callbacks.Benchmark, init_args: {benchmarks: [], every_n_steps: 2}},
  RichModelSummary, LearningRateMonitor, ModelCheckpoint]"""
AVERAGING = "[{class_path: StochasticWeightAveraging, init_args: {swa_lrs: %s}}]"
PRECISION = """[{class_path: lightning.pytorch.plugins.MixedPrecision,
  init_args: {precision: bf16-mixed, device: cpu}}]"""
CLUSTER = "[lightning.pytorch.plugins.environments.LightningEnvironment]"


def settings(out: Path, *more: str) -> dict[str, Any]:
    """What a fit's fingerprint holds of the Trainer."""
    recipe, _ = recipe_from("fit", ["--out", str(out), *more], "run")
    leave()
    return recipe.factory.trainer_settings("final")


def test_fit_fingerprint_depends_on_weight_changing_callbacks(tmp_path: Path) -> None:
    plain = settings(tmp_path)
    assert settings(tmp_path, "--trainer.callbacks", WATCHING) == plain
    assert settings(tmp_path, "--trainer.plugins", CLUSTER) == plain
    changed = [
        settings(tmp_path, "--trainer.callbacks", AVERAGING % 0.1),
        settings(tmp_path, "--trainer.callbacks", AVERAGING % 0.2),
        settings(tmp_path, "--trainer.plugins", PRECISION),
    ]
    assert len({str(found) for found in [plain, *changed]}) == 4


def test_compared_selector_does_not_inherit_configured_options(tmp_path: Path) -> None:
    floor = ["--selector", "PreSel", "--selector.init_args.allocation", "floor"]
    recipe, _ = recipe_from("compare", ["--out", str(tmp_path), *floor], "run")
    leave()
    entries: list[dict[str, Any]] = [
        {"class_path": "PreSel", "init_args": {"weighting": "uniform"}},
        {"class_path": "PreSel"},
    ]
    found = [
        recipe.factory.selector(resolved(entry, recipe.plan.selector_spec)) for entry in entries
    ]
    assert [vars(selector)["allocation"] for selector in found] == ["exact", "floor"]
