from __future__ import annotations

from typing import Any

import pytest

from presel_lightning.compare.cells import FULL, Grid, entry_of
from presel_lightning.compare.command import cell_config
from presel_lightning.errors import UserError

PRESEL: dict[str, Any] = {"class_path": "PreSel", "init_args": {"weighting": "size"}, "label": "a"}


def test_grid_lists_every_combination_and_full_data_last() -> None:
    grid = Grid(["Random", PRESEL], budgets=[0.1, 40], seeds=[3, 5])
    names = [cell.name for cell in grid.cells()]
    expected = [f"{s}-{b}-{n}" for n in (3, 5) for b in ("0.1", "40") for s in ("Random", "a")]
    assert names == [*expected, "full-1-3", "full-1-5"]
    assert [cell.name for cell in Grid(["Random"], [0.1], [3], full=False).cells()] == [
        "Random-0.1-3"
    ]
    assert grid.cells()[-1].entry.label == FULL
    near = [cell.name for cell in Grid(["Random"], [1_234_567, 1_234_568], [3], full=False).cells()]
    assert near == ["Random-1234567-3", "Random-1234568-3"]


def test_entry_of_accepts_a_name_or_a_class_with_arguments() -> None:
    assert entry_of("Random").selector == {"class_path": "Random"}
    assert entry_of("my.place.Mine").label == "Mine"
    entry = entry_of(PRESEL)
    assert entry.label == "a"
    assert entry.selector == {"class_path": "PreSel", "init_args": {"weighting": "size"}}
    assert PRESEL["label"] == "a"  # what was given is left as it was


@pytest.mark.parametrize(
    ("selectors", "message"),
    [
        ([], "selectors is empty"),
        (["Random", "Random"], "Random comes twice; give each entry its own `label`"),
        ([{"init_args": {}}], "names no class"),
        ([{"class_path": "Random", "label": "a/b"}], "label 'a/b' will not do"),
        ([{"class_path": "Random", "label": "full"}], "label 'full' will not do"),
        ([{"class_path": "Random", "labl": "x"}], "labl of Random is unknown; known: label"),
    ],
)
def test_grid_invalid_selectors_raise_user_error(selectors: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Grid(selectors).entries()


@pytest.mark.parametrize("repeated", [{"seeds": [1, 1]}, {"budgets": [0.1, 0.1]}])
def test_grid_repeated_values_raise_user_error(repeated: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="must not repeat a value"):
        Grid(["Random"], **repeated).cells()


BASE: dict[str, Any] = {
    "seed_everything": 0,
    "out": "x",
    "selectors": ["Random"],
    "seeds": [0],
    "budgets": [],
    "pools": [],
    "equal": "epochs",
    "workers": None,
    "baselines": ["random", "full"],
    "data": {"annotations": "quickstart", "budget": 0.15},
    "selector": {"class_path": "presel_lightning.selectors.PreSel", "init_args": {"neighbors": 7}},
    "stages": {"final": {"trainer": {"precision": "bf16-true"}}, "losses": {}},
}


def test_cell_config_is_a_plain_fit_config() -> None:
    cell = Grid([PRESEL], [0.3], [4]).cells()[0]
    config = cell_config(BASE, cell, None)
    assert config["seed_everything"] == 4 and config["baselines"] == []
    assert config["data"]["budget"] == 0.3 and config["data"]["always_reference"] is True
    assert config["data"]["extend"] is False
    assert config["data"]["annotations"] == "quickstart"
    assert config["selector"] == cell.entry.selector
    gone = {"selectors", "seeds", "budgets", "pools", "equal", "workers", "out"}
    assert not gone & set(config) and config["stages"] == BASE["stages"]
    assert BASE["data"]["budget"] == 0.15


def test_cell_config_bare_name_keeps_configured_arguments() -> None:
    cell = Grid(["PreSel"], [0.3], [4]).cells()[0]
    assert cell_config(BASE, cell, None)["selector"] == BASE["selector"]


def test_cell_config_equal_steps_replace_epochs() -> None:
    cell = Grid(["Random"], [0.3], [4]).cells()[0]
    stages = cell_config(BASE, cell, 77)["stages"]
    expected = {"precision": "bf16-true", "max_steps": 77, "max_epochs": -1}
    assert stages == {"final": {"trainer": expected}, "losses": {}}
