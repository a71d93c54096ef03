"""`validate`: random subsets trained on, and their losses beside summed scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from presel_lightning.cli.main import main
from presel_lightning.recipe.fits import Fits
from tests.conftest import fit_arguments


def arguments(pool_folder: Path, out: Path, *more: str) -> list[str]:
    given = fit_arguments(pool_folder, out, "--gradient_width", "64", "--data.block_size", "32")
    return ["validate", *given[1:], "--selectors", "ForValue", "Random", "--subsets", "4", *more]


def test_validation_trains_each_subset_once_and_writes_a_row_a_selector(
    pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after two subsets, it goes on with the third."""
    out, run = tmp_path / "run", Fits.run
    fitted: list[str] = []

    def stopping(self: Fits, name: str, *given: object, **options: object) -> None:
        if name == "subset_2" and name not in fitted:
            fitted.append(name)
            raise KeyboardInterrupt
        fitted.append(name)
        run(self, name, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Fits, "run", stopping)
    assert main(arguments(pool_folder, out)) == 130
    assert main(arguments(pool_folder, out)) == 0
    subsets = [name for name in fitted if name.startswith("subset_")]
    assert subsets == ["subset_0", "subset_1", "subset_2", "subset_2", "subset_3"]
    with (out / "validation.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["selector"] for row in rows] == ["ForValue", "Random"]
    for row in rows:
        assert -1 <= float(row["low"]) <= float(row["score"]) <= float(row["high"]) <= 1
    losses = [json.loads((out / f"work/subsets/{n}.json").read_text())["loss"] for n in range(4)]
    assert len(set(losses)) == 4 and all(loss > 0 for loss in losses)
    assert not list((out / "models").glob("subset_*"))
    page = (out / "report/index.html").read_text()
    assert "What the scores are worth" in page and "scores of selectors validated" in page
    report = json.loads((out / "report/report.json").read_text())
    assert [row["score"] for row in report["validation"]] == sorted(
        (float(row["score"]) for row in rows), reverse=True
    )


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--subsets", "2", "needs 3 or more"), ("--data.budget", "1.0", "they must differ")],
)
def test_validation_that_cannot_be_is_refused(
    option: str, value: str, said: str, pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    given = arguments(pool_folder, tmp_path / "run", "--selectors", "Random", option, value)
    assert main(given) == 2
    assert said in capsys.readouterr().err
