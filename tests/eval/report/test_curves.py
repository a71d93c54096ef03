from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from presel_lightning.eval.report.curves import POINTS, moving_average, read_curves


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")


def test_read_curves_matches_the_csv_logger(tmp_path: Path) -> None:
    rows = ["epoch,step,val_loss,train_loss", "0,0,,3.0", "0,1,,2.0", "0,1,5.0,", "0,1,,2.5"]
    write(tmp_path / "final" / "metrics.csv", [*rows, "1,2,,nan"])
    write(tmp_path / "losses" / "metrics.csv", ["step", "1"])
    write(tmp_path / "random" / "metrics.csv", ["epoch,step,other", "0,0,1"])
    curve = {"share": [50.0, 100.0], "loss": [3.0, 2.5], "smoothed": [3.0, 2.5]}
    assert read_curves(tmp_path) == [{"stage": "final", **curve}]
    assert read_curves(tmp_path / "nowhere") == []


def test_read_curves_averages_long_curves(tmp_path: Path) -> None:
    lines = [f"0,{step},{step % 2}" for step in range(10 * POINTS)]
    write(tmp_path / "full" / "metrics.csv", ["epoch,step,train_loss", *lines])
    (curve,) = read_curves(tmp_path)
    assert len(curve["share"]) == POINTS and curve["share"][0] == pytest.approx(5.5 / 12, abs=1e-5)
    assert set(curve["loss"]) == {0.5}
    assert curve["smoothed"] == pytest.approx([0.5] * POINTS, abs=0.01)


@pytest.mark.parametrize(
    ("stage", "last"),
    [({"steps": 10}, 60.0), ({"steps": 6, "steps_planned": 24}, 25.0), ({}, 100.0)],
)
def test_read_curves_share_is_that_of_the_whole_fit(
    stage: dict[str, int], last: float, tmp_path: Path
) -> None:
    """A logger that skips steps, and a fit that was cut short."""
    write(tmp_path / "final" / "metrics.csv", ["step,train_loss", "1,2.0", "3,1.5", "5,1.0"])
    (curve,) = read_curves(tmp_path, {"final": stage})
    assert curve["share"] == pytest.approx([last / 3, 2 * last / 3, last], abs=1e-4)


def test_moving_average_matches_a_literal_window() -> None:
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.uniform(0, 100, 80)), rng.uniform(0, 3, 80)
    literal = [np.mean([v for at, v in zip(x, y) if abs(at - centre) <= 5]) for centre in x]
    assert moving_average(x, y, 10) == pytest.approx(literal)
