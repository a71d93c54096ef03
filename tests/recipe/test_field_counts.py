"""Samples counted by the values of a field, in the run's facts and on its page."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from presel_lightning.cli.main import main
from tests.conftest import fit_arguments


@pytest.fixture(scope="module")
def marked(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool whose records say where they come from: 25 places, and one record nothing."""
    folder = tmp_path_factory.mktemp("marked") / "pool"
    shutil.copytree(pool_folder, folder)
    records = json.loads((folder / "train.json").read_text())
    for number, record in enumerate(records[1:]):
        record["place"] = True if number % 2 else f"<b>{number % 48}"
    (folder / "train.json").write_text(json.dumps(records))
    return folder


def test_values_of_a_field_are_counted(marked: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = fit_arguments(marked, out, "--selector", "Random", "--data.count_key", "place")
    assert main(["select", *given[1:]]) == 0
    counted = json.loads((out / "run.json").read_text())["stages"]["selection"]["field_counts"]
    assert counted["field"] == "place"
    selected = json.loads((out / "selection/selected.json").read_text())
    expected = Counter(str(record.get("place")) for record in selected)
    values = counted["values"]
    assert values["true"]["selected"] == expected["True"]
    records = json.loads((marked / "train.json").read_text())
    assert sum(v["pool"] for v in values.values()) == len([r for r in records if "image" in r])
    assert sum(v["selected"] for v in values.values()) == len(selected)
    assert len(values) == 21 and values["others"]["pool"] > 0
    page = (out / "report/index.html").read_text()
    assert "Samples by" in page and "&lt;b&gt;" in page and "<b>0" not in page


def test_a_field_that_no_record_has_is_refused(
    marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = fit_arguments(marked, tmp_path, "--selector", "Random", "--data.count_key", "plaace")
    assert main(["select", *given[1:]]) == 2
    assert (
        "data.count_key: no record of the pool has a value for 'plaace'" in capsys.readouterr().err
    )
