from __future__ import annotations

from pathlib import Path
from typing import Any

from presel_lightning.check.probe import longest_and_sampled
from tests.check.running import figure, recipe_of, rewrite, run_check


def test_probe_on_cpu_measures_the_rate_and_check_uses_it(
    pool_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    recipe = recipe_of(pool_folder, out, "--baselines", "random", "--trainer.accelerator", "cpu")
    before = sorted(out.rglob("*"))
    report, screen = run_check(recipe, probing=True)
    rate = float(figure(report, "probe", "CPU").split()[0])
    passed = f"{recipe.plan.data.batch_size} a pass, 20 steps"
    assert rate > 0 and passed in figure(report, "probe", "CPU")
    assert figure(report, "probe", "peak memory").endswith("of this process")
    assert f"fits {rate:.3g}, losses" in screen and "(fits measured here)" in screen
    assert sorted(out.rglob("*")) == before, "a check writes nothing"


def test_probe_without_gpu_is_skipped(pool_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(pool_folder, tmp_path, "--trainer.accelerator", "cpu")
    report, _ = run_check(recipe)
    assert "probe" not in report.facts
    assert not any("probe" in note for note in report.notes)


def test_probe_without_instructions_reports_the_reason(pool_folder: Path, tmp_path: Path) -> None:
    def drop_conversations(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in r.items() if k != "conversations"} for r in records]

    options = rewrite(pool_folder, tmp_path, drop_conversations)
    report, _ = run_check(recipe_of(pool_folder, tmp_path / "run", *options), probing=True)
    assert "probe" not in report.facts
    assert any("no probe was run: no record has an instruction" in n for n in report.notes)


def test_probe_uses_the_longest_records_first() -> None:
    records = [{"conversations": "x" * n} for n in range(10)]
    longest, others = longest_and_sampled(records, 3, seed=0)
    assert [len(r["conversations"]) for r in longest] == [9, 8, 7]
    assert len(others) == 7 and not any(r in longest for r in others)
