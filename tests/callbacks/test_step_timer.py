"""A fit that its time limit ends is marked as cut short, and continues without the limit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from presel_lightning.cli.main import main
from presel_lightning.eval.comparison.verdict import cut_short
from tests.conftest import benchmark_arguments, fit_arguments

LIMIT = ["--stages.final.trainer", "{max_time: {milliseconds: 1}}"]


def final(out: Path) -> dict[str, Any]:
    """The ledger's entry of the final fit."""
    stage: dict[str, Any] = json.loads((out / "run.json").read_text())["stages"]["final"]
    return stage


def weights(out: Path) -> bytes:
    return (out / "models" / "final" / "adapter_model.safetensors").read_bytes()


def test_fit_cut_by_max_time_is_marked_and_continues_to_the_same_weights(
    finished: Path, pool_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out, symlinks=True)
    shutil.rmtree(out / "models" / "final")  # the final fit is done again, the rest is reused
    command = fit_arguments(pool_folder, out, *benchmark_arguments(pool_folder))

    assert main([*command, *LIMIT]) == 0
    cut = final(out)
    assert cut["status"] == "cut short" and cut["steps"] == 1
    assert cut["cut_short"].startswith("after 1 of 2 steps by trainer.max_time")
    assert "cut short after 1 of 2 steps" in capfd.readouterr().out
    report = json.loads((out / "report" / "report.json").read_text())
    assert any("final was cut short after 1 of 2 steps" in line for line in report["verdict"])
    assert "was cut short after 1 of 2 steps" in (out / "report" / "index.html").read_text()
    assert weights(out) != weights(finished)

    assert main([*command, *LIMIT]) == 0  # the same limit: this is what was asked for
    assert final(out) == cut
    assert "another limit or none continues it" in capfd.readouterr().out

    assert main(command) == 0
    whole = final(out)
    assert whole["status"] == "done" and whole["steps"] == 2 and "cut_short" not in whole
    assert len(whole["parts"]) == 2  # both starts are counted
    assert weights(out) == weights(finished)
    assert (out / "benchmark.json").read_bytes() == (finished / "benchmark.json").read_bytes()
    assert not list((out / "work").glob("fit-final-*"))


def test_comparison_names_the_cells_that_were_cut_short() -> None:
    cells: list[dict[str, Any]] = [
        {"name": "Random-0.1-0", "cut_short": None},
        {"name": "PreSel-0.1-0", "cut_short": "x"},
    ]
    assert cut_short(cells)[0].startswith("1 of 2 fits were cut short (PreSel-0.1-0 x)")
    assert cut_short(cells[:1]) == []
