"""Every key of the parser of training commands, and values that no key was made for."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from jsonargparse import ArgumentError, ArgumentParser
from lightning import Trainer

from presel_lightning.annotators import Annotator
from presel_lightning.cli.parts import error_message
from presel_lightning.cli.training import parse
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.base import BenchmarkTask
from presel_lightning.models import Components, LoRA, Quantization
from presel_lightning.selectors import Selector
from presel_lightning.selectors.weighting import Weighting
from presel_lightning.selectors.within import Within
from presel_lightning.tasks import Embed, FineTune

VALUES = (
    "0",
    "-1",
    "1000000000",
    "1e400",
    "nan",
    "",
    "null",
    "[]",
    "[1]",
    "{a: 1}",
    "true",
    "0.5",
    "1.5",
    "word",
    "x" * 5000,
)
"""Zero, signs, magnitudes, numbers that are none, nothing, and values of other types."""


def every_key() -> Iterator[tuple[str, list[str]]]:
    """Each key with the options that set it; `VALUE` stands for the value."""
    yield from top_keys()
    yield from class_keys("selector", Selector, ["--selector"])
    for part, base in (("weighting", Weighting), ("within", Within)):
        name = f"selector.init_args.{part}"
        yield from class_keys(name, base, ["--selector=PreSel", f"--{name}"])
    yield from class_keys("annotator", Annotator, ["--annotator"])
    for found in concrete(BenchmarkTask):
        path = f"{found.__module__}.{found.__qualname__}"
        for key, given in arguments_of(found):
            yield key, [f"--benchmarks=[{{class_path: {path}, init_args: {{{given}}}}}]"]
    for key, section in (
        ("model.components", Components),
        ("model.quantization", Quantization),
        ("model.lora", LoRA),
        ("stages.features.model", Embed),
    ):
        for name, given in arguments_of(section):
            yield f"{key}.{name}", [f"--{key}={{{given}}}"]
    for name in inspect.signature(FineTune.__init__).parameters:
        if name != "self":
            yield f"stages.losses.model.{name}", [f"--stages.losses.model={{{name}: VALUE}}"]
    for name in inspect.signature(Trainer.__init__).parameters:
        if name != "self":
            yield f"stages.final.trainer.{name}", [f"--stages.final.trainer={{{name}: VALUE}}"]


def top_keys() -> Iterator[tuple[str, list[str]]]:
    """Keys that are options by themselves."""
    for action in parse("fit", ["--data.annotations", "x"]).parser._actions:
        known = getattr(action, "_typehint", None) is not None and action.option_strings
        if known and not action.dest.endswith(".help"):
            yield action.dest, [f"--{action.dest}=VALUE"]


def class_keys(key: str, base: type, options: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Arguments of each class that a key takes."""
    for found in concrete(base):
        *before, option = options
        needed = [f"{option}.init_args.{name}=x" for name in required(found)]
        for name in inspect.signature(found).parameters:
            own = f"{option}.init_args.{name}=VALUE"
            kept = [given for given in needed if not given.startswith(own.removesuffix("VALUE"))]
            yield f"{key}.init_args.{name}", [*before, f"{option}={found.__name__}", *kept, own]


def arguments_of(found: type) -> Iterator[tuple[str, str]]:
    """Each argument of a class, and all that it needs as the inside of a YAML mapping."""
    for name in inspect.signature(found).parameters:
        needed = [
            f"{other}: [x], " if other == "tasks" else f"{other}: x, "
            for other in required(found)
            if other != name
        ]
        yield name, "".join(needed) + f"{name}: VALUE"


def required(found: type) -> list[str]:
    """Arguments of a class without a default."""
    parameters = inspect.signature(found).parameters.values()
    return [each.name for each in parameters if each.default is each.empty]


def concrete(base: type) -> list[type]:
    """The package's own classes of a kind, sorted by name."""
    found: set[type] = set()
    new: list[type] = [base]
    for each in new:
        found.add(each)
        new.extend(type.__subclasses__(each))
    own = (c for c in found if c.__module__.startswith("presel_lightning"))
    return sorted((c for c in own if not inspect.isabstract(c)), key=lambda c: c.__name__)


def refusal(parser: ArgumentParser, words: list[str]) -> str | None:
    """The line that the parser refuses a command line with; None where it accepts it."""
    try:
        parser.parse_args(words)
    except ArgumentError as error:
        try:
            return error_message(error, parser, words)
        except UserError as cause:
            return str(cause)
    return None


def names_key(key: str, line: str) -> bool:
    """Whether a message is one line that names a key, in whole or as the part of a section."""
    return line.count("\n") == 0 and key.rpartition(".")[2] in line


def set_to(options: list[str], value: str) -> list[str]:
    """The options with a value in its place."""
    return [option.replace("VALUE", value) for option in options]
