"""Nested parts of a selector from the command line, from YAML and from a list of `compare`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from presel_lightning import selectors
from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.main import main
from presel_lightning.cli.training import recipe_from
from presel_lightning.errors import UserError
from presel_lightning.recipe.plan import StageFactory
from presel_lightning.recipe.recipe import Recipe
from presel_lightning.run.lock import leave
from presel_lightning.selectors import Medoids, PreSel, Selector, SizeBalanced
from presel_lightning.selectors.part import Part
from presel_lightning.selectors.weighting import IRS, WEIGHTINGS, Headroom, Uniform
from presel_lightning.selectors.within import WITHIN, Coverage, NeighborCentrality, RandomOrder
from tests.conftest import fit_arguments

WEIGHTING, INSIDE = "--selector.init_args.weighting", "--selector.init_args.within"
OPTIONS: list[tuple[list[str], Selector]] = [
    ([WEIGHTING, "uniform"], PreSel(Uniform())),
    (
        [f"{WEIGHTING}.class_path", "Headroom", f"{WEIGHTING}.init_args.shrink", "true"],
        PreSel(Headroom(shrink=True)),
    ),
    ([WEIGHTING, "Headroom", f"{WEIGHTING}.init_args.floor", "0.15"], PreSel(Headroom(floor=0.15))),
    # an option of the default
    ([f"{WEIGHTING}.init_args.temperature", "0.2"], PreSel(IRS(temperature=0.2))),
    ([f"{WEIGHTING}.init_args.priors.shape", "2"], PreSel(IRS(priors={"shape": 2.0}))),
    ([INSIDE, "coverage"], PreSel(within=Coverage())),
    (
        [f"{INSIDE}.init_args.images_per_cluster", "7"],
        PreSel(within=NeighborCentrality(images_per_cluster=7)),
    ),
    (
        [INSIDE, "{class_path: RandomOrder, init_args: {near_duplicates: 0.9}}"],
        PreSel(within=RandomOrder(near_duplicates=0.9)),
    ),
    (["--selector", "SizeBalanced", INSIDE, "random"], SizeBalanced(RandomOrder())),
    (["--selector", "Medoids"], Medoids()),
]
SPECS: list[tuple[dict[str, Any], Selector]] = [
    ({"class_path": "PreSel"}, PreSel()),
    (
        {"class_path": "PreSel", "init_args": {"weighting": "headroom", "within": "random"}},
        PreSel(Headroom(), RandomOrder()),
    ),
    (
        {
            "class_path": "PreSel",
            "init_args": {
                "weighting": {"class_path": "Headroom", "init_args": {"cap_flat": True}},
                "within": {"class_path": "Coverage", "init_args": {"neighbors": 3}},
            },
        },
        PreSel(Headroom(cap_flat=True), Coverage(neighbors=3)),
    ),
]


def recipe(pool_folder: Path, out: Path, *more: str) -> Recipe:
    arguments, name = find_configs(fit_arguments(pool_folder, out, *more)[1:])
    found, _ = recipe_from("select", arguments, name)
    leave()
    return found


@pytest.fixture(scope="module")
def parts(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> StageFactory:
    """What a `compare` builds the selectors of its list from."""
    return recipe(pool_folder, tmp_path_factory.mktemp("parts") / "run").factory


def same(one: Selector, other: Selector) -> bool:
    """Whether two selectors select by the same parts with the same options."""
    return type(one) is type(other) and one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    ("options", "expected"),
    OPTIONS,
    ids=lambda v: " ".join(v) if isinstance(v, list) else type(v).__name__,
)
def test_nested_option_on_the_command_line_reaches_the_selector(
    options: list[str], expected: Selector, pool_folder: Path, tmp_path: Path
) -> None:
    found = recipe(pool_folder, tmp_path / "run", *options)
    assert same(found.plan.selector, expected)
    assert found.plan.selector.needs == expected.needs


def test_resolved_config_gives_the_same_selector_again(pool_folder: Path, tmp_path: Path) -> None:
    options = [WEIGHTING, "headroom", INSIDE, "RandomOrder"]
    options += [f"{INSIDE}.init_args.images_per_cluster", "1000"]
    found = recipe(pool_folder, tmp_path / "run", *options)
    again = recipe(pool_folder, tmp_path / "again", "--config", str(tmp_path / "run/config.yaml"))
    assert same(again.plan.selector, PreSel(Headroom(), RandomOrder(images_per_cluster=1000)))
    assert again.plan.selector_spec == found.plan.selector_spec


@pytest.mark.parametrize(
    ("spec", "expected"),
    SPECS,
    ids=lambda v: str(v)[:60] if isinstance(v, dict) else type(v).__name__,
)
def test_nested_class_in_yaml_and_in_a_list_of_compare_is_the_same(
    spec: dict[str, Any], expected: Selector, pool_folder: Path, tmp_path: Path, parts: StageFactory
) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"selector": spec}))
    found = recipe(pool_folder, tmp_path / "run", "--config", str(tmp_path / "own.yaml"))
    assert same(found.plan.selector, expected)
    assert same(parts.selector(spec), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "headrom"}, "weighting 'headrom' is unknown; choose from irs, size"),
        ({"weighting": {"class_path": "headroom"}}, "did you mean Headroom?"),
        (
            {"within": {"class_path": "Medoid"}},
            "known: Coverage, Facility, Medoids, NeighborCentrality",
        ),
        (
            {"within": {"class_path": "RandomOrder", "init_args": {"neighbors": 3}}},
            "RandomOrder has no 'neighbors'; it takes images_per_cluster",
        ),
        ({"floor": 0.1}, "init_args.floor is now selector.init_args.weighting.init_args.floor"),
    ],
    ids=str,
)
def test_wrong_name_in_a_list_of_compare_is_answered_with_the_right_ones(
    options: dict[str, Any], message: str, parts: StageFactory
) -> None:
    with pytest.raises(UserError) as refused:
        parts.selector({"class_path": "PreSel", "init_args": options})
    assert message in str(refused.value) and "\n" not in str(refused.value)


OLD = {
    "temperature": 0.1,
    "shrink": True,
    "floor": 0.1,
    "priors": {"shape": 2.0},
    "cap_flat": True,
    "near_duplicates": 0.9,
    "images_per_cluster": 5,
    "neighbors": 3,
    "backend": "torch",
    "device": "cpu",
}


@pytest.mark.parametrize("option", OLD)
def test_argument_of_an_earlier_version_is_answered_with_its_new_place(
    option: str, parts: StageFactory
) -> None:
    """And the new place takes it."""
    with pytest.raises(UserError) as refused:
        parts.selector({"class_path": "PreSel", "init_args": {option: OLD[option]}})
    old, _, new = str(refused.value).removeprefix("selectors: selector.").partition(" is now ")
    assert old == f"init_args.{option}"
    spec: Any = OLD[option]
    for key in reversed(new.removeprefix("selector.").split(".")):
        spec = {key: spec}
    found = parts.selector({"class_path": "PreSel", **spec})
    assert isinstance(found, PreSel)
    part = found.weighting if ".weighting." in new else found.within
    assert vars(part)[option] == OLD[option]


def test_config_of_an_earlier_version_is_answered_with_all_new_places(
    pool_folder: Path, tmp_path: Path
) -> None:
    config = {"selector": {"class_path": "PreSel", "init_args": {"weighting": "irs", **OLD}}}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError) as refused:
        recipe(pool_folder, tmp_path / "run", "--config", str(tmp_path / "old.yaml"))
    text = str(refused.value)
    assert text.startswith(f"{tmp_path / 'old.yaml'}: ") and "\n" not in text
    assert all(f"init_args.{name} is now " in text for name in OLD)


def test_selector_in_the_place_of_the_default_one_has_its_own_defaults(parts: StageFactory) -> None:
    """Also where an argument is named as one of the default selector."""
    kinds = [getattr(selectors, name) for name in selectors.__all__]
    free = [kind for kind in kinds if isinstance(kind, type) and not needs_arguments(kind)]
    assert len(free) > 20
    for kind in free:
        found, own = parts.selector({"class_path": kind.__name__}), kind()
        assert type(found) is kind and settings(found) == settings(own), kind.__name__


def needs_arguments(kind: type[Selector]) -> bool:
    """Whether a selector cannot be built without arguments, as it reads a file, or is abstract."""
    given = inspect.signature(kind).parameters.values()
    return inspect.isabstract(kind) or any(p.default is p.empty for p in given)


def settings(part: object) -> object:
    """What a selector and its parts were built with."""
    if isinstance(part, Part | Selector):
        return type(part), {key: settings(value) for key, value in vars(part).items()}
    return part


def test_photos_config_selects_one_image_of_each_of_as_many_clusters(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(24):
        place = tmp_path / "photos" / f"folder{number % 2}" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place)
    options = ["--data.annotations", str(tmp_path / "photos"), "--data.budget", "8"]
    options += ["--stages.features.model", "{checkpoint: quickstart-encoder, dtype: float32}"]
    options += ["--data.num_workers", "0", "--out", str(tmp_path / "run")]
    assert main(["select", "--config", "photos.yaml", *options]) == 3
    rows = pq.read_table(tmp_path / "run" / "selection" / "selection.parquet").to_pylist()
    chosen = [(row["task"], row["cluster"]) for row in rows if row["selected"]]
    assert len(chosen) == len(set(chosen)) == 8


def test_short_names_are_lower_case_and_of_one_part_each() -> None:
    for known in (WEIGHTINGS, WITHIN):
        assert all(name == name.lower() for name in known)
    assert not set(WEIGHTINGS) & set(WITHIN)
