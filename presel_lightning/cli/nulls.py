"""Keys that are null and may not be: a parser takes any null of a file, a mapping or a class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import is_dataclass
from pydoc import locate
from typing import Any, get_args, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from presel_lightning.errors import UserError
from presel_lightning.models import Components, Quantization
from presel_lightning.recipe.passes.base import Throughput
from presel_lightning.recipe.plan import TwoTowerKeys

SECTIONS = {
    "model.components": Components,
    "model.quantization": Quantization,
    "throughput": Throughput,
    "two_tower": TwoTowerKeys,
}
"""Keys whose value is a section of its own, or null."""
CLASSES = ("selector", "annotator", "benchmarks")
"""Keys whose value is a class with its arguments, or a list of them."""


def refuse_nulls(parser: ArgumentParser, config: Namespace, words: list[str]) -> None:
    """Check that no key is null whose type is not.

    Args:
        parser: parser of the keys.
        config: what it has parsed.
        words: the command line that it has parsed.

    Raises:
        ArgumentError: a key is null; the parser's own message names its range.
        UserError: an argument of a class or a part of a section is.
    """
    defaults = parser.get_defaults()
    keys = [key for key, value in config.items() if value is None and "init_args" not in key]
    keys = [key for key in keys if defaults.get(key) is not None]
    if keys:  # as options they are refused
        parser.parse_args([*words, *(f"--{key}=null" for key in keys)])
    for key in (*CLASSES, *SECTIONS):
        for null in nulls(key, config.get(key), SECTIONS.get(key)):
            raise UserError(f"{null} is null; give a value, or leave it out for its default")


def nulls(key: str, value: object, kind: type | None = None) -> Iterator[str]:
    """Find the arguments that are null and may not be, in classes, their parts, and lists of them.

    Args:
        key: name of the value.
        value: what the parser made of it.
        kind: dataclass of a section.
    """
    if isinstance(value, list):
        for item in value:
            yield from nulls(key, item)
    if not isinstance(value, Namespace):
        return
    arguments, place = value, key
    if "class_path" in value:
        found = locate(value.class_path)
        kind = found if isinstance(found, type) else None
        arguments, place = value.get("init_args") or Namespace(), f"{key}.init_args"
    hints = hints_of(kind)
    for name, given in vars(arguments).items():
        if given is None and not may_be_null(hints.get(name, Any)):
            yield f"{place}.{name}"
        yield from nulls(f"{place}.{name}", given)


def hints_of(kind: type | None) -> dict[str, Any]:
    """Return the types of a class's arguments; none where they cannot be resolved."""
    if kind is None:
        return {}
    with suppress(NameError, TypeError, AttributeError):
        return get_type_hints(kind if is_dataclass(kind) else kind.__init__)  # type: ignore[misc]
    return {}


def may_be_null(hint: Any) -> bool:  # noqa: ANN401 - any type
    """Return whether a type includes None."""
    return hint in (Any, object, None, type(None)) or type(None) in get_args(hint)
