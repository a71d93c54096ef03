"""Commands with a model: a recipe from the command line, parsed by LightningCLI."""

from __future__ import annotations

from dataclasses import fields
from errno import ENAMETOOLONG
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, get_args

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

from presel_lightning.check import check
from presel_lightning.check.cost import Comparison
from presel_lightning.check.leakage import Against
from presel_lightning.cli.mistakes import known_classes, suggest
from presel_lightning.cli.options import RecipeCLI
from presel_lightning.cli.parts import ConfigStageFactory, raised_error, settled
from presel_lightning.cli.trainer import TRAINER_ERRORS, RecipeTrainer, of_lightning, refused_option
from presel_lightning.compare.cells import Grid, GridKeys, resolved
from presel_lightning.compare.command import compare
from presel_lightning.compare.jobs import Main
from presel_lightning.console import console
from presel_lightning.errors import PreselError, UserError
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.models.hub import is_hub_error
from presel_lightning.recipe.plan import Arm, Plan, RunKeys
from presel_lightning.recipe.recipe import Recipe
from presel_lightning.recipe.validation import validate
from presel_lightning.run.files import user_cache, write_text
from presel_lightning.run.lock import leave, occupied, occupy
from presel_lightning.run.ranks import join, rank_zero
from presel_lightning.run.storage import storing_anywhere
from presel_lightning.selectors import Selector
from presel_lightning.signals import Signal
from presel_lightning.tasks import FineTune

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def run(command: str, arguments: list[str], name: str, main: Main) -> None:
    """Run a command of the recipe.

    Args:
        command: one of `fit`, `select`, `compare`, `validate`, `evaluate`, `check`, `prepare`.
        arguments: its arguments, config files first.
        name: name of the last config, for the default run folder.
        main: the program's entry point, which `compare` runs in worker processes.

    Raises:
        UserError: an error in the configuration or the data, or a model that cannot be found.
        StorageError: a folder that is written to is full or read-only.
    """
    try:
        with storing_anywhere(written_to):
            recipe, options = recipe_from(command, arguments, name)
            if command == "compare":
                compare(recipe, options["grid"], main)
            elif command == "validate":
                validate(recipe, **options)
            elif command == "check":
                check(recipe.plan, recipe.factory, console, **options)
            else:
                getattr(recipe, command)(**options)
    except PreselError:
        raise
    except TRAINER_ERRORS as error:
        if not of_lightning(error):
            raise
        raise refused_option(error, vars(parse(command, arguments).config.trainer)) from error
    except OSError as error:
        if error.errno == ENAMETOOLONG:
            raise too_long(error, parse(command, arguments).config) from error
        if not is_hub_error(error):
            raise
        raise UserError(
            f"a model is neither a folder nor can the hub be reached ({error}); check --checkpoint, "
            "model.checkpoint, model.components and stages.features.model.checkpoint"
        ) from error
    finally:
        leave()


def written_to() -> list[Path]:
    """Return the folders that a command writes to."""
    return [*occupied(), user_cache(), Path(gettempdir())]


def parse(command: str, arguments: list[str]) -> RecipeCLI:
    """Parse a command line; nothing is built from it.

    Raises:
        UserError: a key is unknown, or a value has the wrong type or is out of its range.
    """
    program = f"presel_lightning {command}"
    return RecipeCLI(
        FineTune,
        SelectionDataModule,
        trainer_class=RecipeTrainer,
        run=False,
        args=arguments,
        seed_everything_default=0,
        save_config_callback=None,
        load_from_checkpoint_support=False,
        auto_configure_optimizers=False,
        parser_kwargs={
            "exit_on_error": False,
            "allow_abbrev": False,  # `--budget` is not `--budgets`
            "prog": program,
            "usage": f"{program} --config FILE [--any.key VALUE ...]",
            "description": "Every key of a config is an option: the recipe's own, then trainer, "
            "model, data, selector, annotator and stages.",
        },
    )


def too_long(error: OSError, config: Namespace) -> UserError:
    """Return the error of a name that no file system takes, with the key that holds it."""
    name = str(error.filename)
    texts = (
        (key, text)
        for key, value in config.items()
        for text in (value if isinstance(value, list) else [value])
    )
    keys = [key for key, text in texts if isinstance(text, str) and len(text) > 99 and text in name]
    return UserError(f"{keys[0] if keys else 'a path'}: {name[:40]}... is too long for a path")


def recipe_from(command: str, arguments: list[str], name: str) -> tuple[Recipe, dict[str, Any]]:
    """Parse a command line to a recipe, and the options of its method."""
    cli = parse(command, arguments)
    parser, config = cli.parser, cli.config
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.get("selector") is None:
        raise UserError(f"selector is null; known: {', '.join(known_classes(Selector))}")
    plan = plan_from(parser, config, Path(config.out or f"runs/{folder_of(command, config, name)}"))
    refuse_other(command, plan.out)
    refuse_inside(plan.out, plan.data.annotations)
    unknown = set(plan.selector.needs) - set(Signal.known)
    if unknown:
        raise UserError(
            f"selector needs {', '.join(unknown)}; known: {', '.join(sorted(Signal.known))}"
        )
    factory = ConfigStageFactory(parser, config)
    if command in ("fit", "select", "compare", "validate"):
        factory.examine_strategies()
    elif command != "check":  # `check` collects these errors itself
        factory.examine_launchers()
    if command == "compare":  # one process, whatever its cells use
        factory.pass_in_one_process()
    elif command != "check":
        join(factory.trainer("losses", plan.out / "logs" / "losses"))
    if command != "check":  # `check` writes nothing
        occupy(plan.out)
    if rank_zero() and command not in ("check", "evaluate"):
        write_text(plan.out / "config.yaml", parser.dump(config, skip_unset=False))
    recipe = Recipe(plan, factory)
    return recipe, options_of(command, parser, config, recipe)


def folder_of(command: str, config: Namespace, name: str) -> str:
    """Return the default name of the run folder."""
    if command in ("compare", "validate"):
        return f"{name}-{command}"
    if not config.checkpoint:
        return name
    place = Path(config.checkpoint)
    place = place.absolute() if place.is_dir() else place
    run = [place.parent.parent.name] if place.parent.name == "models" else []  # RUN/models/final
    return "-".join(["evaluate", *run, place.name])


def refuse_inside(out: Path, annotations: str | list[str] | None) -> None:
    """Refuse a run folder inside an image folder, where its files would be read as images.

    Raises:
        UserError: the run folder is an image folder, or inside one.
    """
    for place in [annotations] if isinstance(annotations, str) else annotations or []:
        if Path(place).is_dir() and out.resolve().is_relative_to(Path(place).resolve()):
            raise UserError(
                f"--out {out} is inside data.annotations {place}, whose files are the pool; give "
                "another folder"
            )


def refuse_other(command: str, out: Path) -> None:
    """Refuse to write a run into the folder of a comparison, and the reverse.

    Raises:
        UserError: the folder holds the other.
    """
    compared = (out / "grid.json").exists() or (out / "pools").is_dir()
    if command in ("fit", "select") and compared:
        raise UserError(f"--out {out} holds a comparison; give another folder")
    if command == "compare" and (out / "selection").exists():
        raise UserError(f"--out {out} holds a run; give another folder")


def comparison_of(config: Namespace, recipe: Recipe) -> Comparison | None:
    """Return what `compare` would do; None where the configuration names no selectors for it."""
    if config.selectors == GridKeys().selectors:
        return None
    grid = grid_of(config)
    needs = tuple(tuple(each.needs) for each in selectors_of(config, recipe).values())
    return Comparison(needs, tuple(grid.budgets), len(grid.seeds), grid.full)


def against_of(config: Namespace) -> Against | None:
    """Return the benchmarks that the pool is compared with, if any."""
    if not config.against:
        return None
    return Against(tuple(config.against), config.leakage_cosine, config.leakage_words)


def selectors_of(config: Namespace, recipe: Recipe) -> dict[str, Selector]:
    """Return the selectors that a comparison or validation names, by label."""
    configured = recipe.plan.selector_spec
    specs = {e.label: resolved(e.selector, configured) for e in grid_of(config).entries()}
    return {label: recipe.factory.selector(spec) for label, spec in specs.items()}


def grid_of(config: Namespace) -> Grid:
    """Return the grid of a comparison."""
    given = {**keys_of(config, GridKeys), "budgets": config.budgets or [config.data.budget]}
    return Grid(**given, full=not config.full_scores)


def options_of(
    command: str, parser: ArgumentParser, config: Namespace, recipe: Recipe
) -> dict[str, Any]:
    """Return the keyword arguments of a command's method.

    Raises:
        UserError: a required option is missing.
    """
    if command == "check":
        return {
            "throughput": parser.instantiate(config).throughput,
            "n_records": config.check_records,
            "n_images": config.check_images,
            "probing": None if config.probe == "auto" else config.probe,
            "comparison": comparison_of(config, recipe),
            "against": against_of(config),
        }
    if command == "prepare":
        return {"signals": config.signals}
    if command == "compare":
        return {"grid": grid_of(config)}
    if command == "validate":
        return {"selectors": selectors_of(config, recipe), "subsets": config.subsets}
    if command != "evaluate":
        return {}
    if not config.checkpoint:
        raise UserError("evaluate needs --checkpoint: a folder or hub id of a model")
    return {"checkpoint": config.checkpoint}


def plan_from(parser: ArgumentParser, config: Namespace, out: Path) -> Plan:
    """Build the part of the configuration that all stages share."""
    baselines = [arm for arm in config.baselines or [] if arm != "[]"]
    unknown = set(baselines) - set(get_args(Arm))
    if unknown:
        known = get_args(Arm)
        wrong = ", ".join(sorted(unknown))
        cure = suggest(wrong, known)
        raise UserError(f"baselines: {wrong} is unknown; choose from {', '.join(known)}{cure}")
    keys = ("data", "selector", "benchmarks", "annotator", "two_tower")
    try:
        built = parser.instantiate(Namespace({key: config[key] for key in keys}))
    except ValueError as error:
        if (own := raised_error(error)) is None:
            raise
        raise own from error
    return Plan(
        **{**keys_of(config, RunKeys), "baselines": baselines, "two_tower": built.get("two_tower")},
        out=out,
        seed=int(config.seed_everything),
        data=built.data,
        selector=settled(built.selector, built.get("two_tower")),
        selector_spec=yaml.safe_load(parser.dump(config))["selector"],
        benchmarks=built.benchmarks,
        annotator=built.get("annotator"),
    )


def keys_of(config: Namespace, keys: type[DataclassInstance]) -> dict[str, Any]:
    """Return the values of the keys that a dataclass declares."""
    return {key.name: config[key.name] for key in fields(keys)}
