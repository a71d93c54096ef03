"""Configs are product: each parses, and each key is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from presel_lightning.cli.configs import configs_folder, find_configs
from presel_lightning.cli.main import main
from presel_lightning.cli.mistakes import read_config
from presel_lightning.cli.training import recipe_from
from presel_lightning.errors import UserError
from presel_lightning.recipe.recipe import Recipe
from presel_lightning.run.lock import leave
from tests.optional import require

CONFIGS = sorted(configs_folder().glob("*.yaml"))
FILTERS = [path for path in CONFIGS if "rules" in read_config(path)]
"""Configs of `filter`; all others are those of the recipe."""
TRAINING = [path for path in CONFIGS if path not in FILTERS]


@pytest.mark.parametrize("config", FILTERS, ids=lambda path: path.name)
def test_config_of_filter_parses_up_to_its_rules(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--metadata", str(tmp_path), "--output", str(tmp_path / "uids.npy")]
    assert main(["filter", "--config", config.name, *words]) == 2
    assert f"--metadata {tmp_path}: no .parquet and no annotations there" in capsys.readouterr().err


def parsed(config: str, command: str, out: Path, *more: str) -> Recipe:
    """The recipe that a command makes of a config."""
    arguments, name = find_configs(["--config", config, "--out", str(out), *more])
    recipe, _ = recipe_from(command, arguments, name)
    leave()
    return recipe


@pytest.mark.parametrize("config", TRAINING, ids=lambda path: path.name)
def test_config_parses(config: Path, tmp_path: Path) -> None:
    if "deepspeed" in config.stem:
        require("deepspeed")
    recipe = parsed(config.name, "fit", tmp_path)
    assert recipe.plan.data.budget == {"full": 1.0, "influence_space": 0.8}.get(config.stem, 0.15)
    assert (tmp_path / "config.yaml").is_file()


@pytest.mark.parametrize(
    ("command", "more"),
    [("evaluate", ["--checkpoint", "x/y"]), ("check", []), ("select", [])],
)
def test_config_parses_for_every_training_command(
    command: str, more: list[str], tmp_path: Path
) -> None:
    """Their parser is the same, so one config stands for all."""
    assert parsed("llava15.yaml", command, tmp_path, *more).plan.data.budget == 0.15
    assert (tmp_path / "config.yaml").is_file() == (command == "select")


def test_influence_space_stands_over_another_config_and_alone(tmp_path: Path) -> None:
    """For instruction tuning as an overlay; on image-text pairs whole, or over the quickstart."""
    overlay = ["--config", "influence_space_llava.yaml"]
    recipe = parsed("quickstart.yaml", "fit", tmp_path / "llava", *overlay)
    assert recipe.plan.selector.needs == ("clip_similarity", "gradients")
    assert recipe.plan.two_tower is None and recipe.scoring.names == ["quickstart"]
    for more in (["influence_space.yaml"], ["quickstart.yaml", "--config", "influence_space.yaml"]):
        recipe = parsed(more[0], "fit", tmp_path / str(len(more)), *more[1:])
        assert recipe.plan.selector.needs == ("clip_similarity", "pair_gradients")
        assert recipe.plan.two_tower is not None and recipe.plan.benchmarks == []
        assert recipe.scoring.names[0] == "image_to_text_r1"


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_every_config_key_has_a_comment(config: Path) -> None:
    """By a comment above it, with nothing but its like in between."""
    lines = config.read_text().splitlines()
    for number, line in enumerate(lines):
        key = line.strip()
        if not key or key.startswith(("#", "-")) or key.endswith(":"):
            continue
        above = lines[:number]
        while above and above[-1].strip() and not above[-1].strip().startswith("#"):
            above.pop()
        assert above and above[-1].strip(), f"{config.name}:{number + 1}: {key} has no comment"


def test_find_configs_prefers_a_local_file_over_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped, _ = find_configs(["--config", "quickstart.yaml"])
    assert shipped == ["--config", str(configs_folder() / "quickstart.yaml")]
    (tmp_path / "quickstart.yaml").write_text("seed_everything: 1\n")
    assert find_configs(["--config=quickstart.yaml"]) == (
        ["--config", "quickstart.yaml"],
        "quickstart",
    )


def test_find_configs_moves_files_before_options() -> None:
    arguments, _ = find_configs(["--data.budget", "0.3", "--config", "quickstart.yaml"])
    assert arguments[0] == "--config" and arguments[-2:] == ["--data.budget", "0.3"]


def test_find_configs_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(UserError, match=r"quickstart\.yaml"):
        find_configs(["--config", "nowhere_in_this_place.yaml"])
