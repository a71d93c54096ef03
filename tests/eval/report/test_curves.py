from __future__ import annotations

from pathlib import Path

import pytest

from presel_lightning.eval.report.curves import POINTS, read_curves


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")


def test_read_curves_matches_the_csv_logger(tmp_path: Path) -> None:
    rows = ["epoch,step,val_loss,train_loss", "0,0,,3.0", "0,1,,2.0", "0,1,5.0,", "0,1,,2.5"]
    write(tmp_path / "final" / "metrics.csv", [*rows, "1,2,,nan"])
    write(tmp_path / "losses" / "metrics.csv", ["step", "1"])
    write(tmp_path / "random" / "metrics.csv", ["epoch,step,other", "0,0,1"])
    assert read_curves(tmp_path) == [{"stage": "final", "steps": [0.0, 1.0], "loss": [3.0, 2.5]}]
    assert read_curves(tmp_path / "nowhere") == []


def test_read_curves_averages_long_curves(tmp_path: Path) -> None:
    lines = [f"0,{step},{step % 2}" for step in range(10 * POINTS)]
    write(tmp_path / "full" / "metrics.csv", ["epoch,step,train_loss", *lines])
    (curve,) = read_curves(tmp_path)
    assert len(curve["steps"]) == POINTS and curve["steps"][0] == pytest.approx(4.5)
    assert set(curve["loss"]) == {0.5}
