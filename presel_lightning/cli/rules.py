"""Rules of `filter` from the list in its config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any as Value
from typing import TypeVar

from jsonargparse import ArgumentError, ArgumentParser

from presel_lightning.cli.mistakes import explain, suggest
from presel_lightning.errors import UserError
from presel_lightning.filters import RULES, All, Any, Not, Rule

Part = TypeVar("Part")

COMBINED = ("all", "any", "not")


def rules_from(entries: Sequence[Value], common: Mapping[str, Value]) -> tuple[Rule, ...]:
    """Build the rules of a list.

    Args:
        entries: each a name, a name with its options, or `all`, `any`, `not` with rules.
        common: options that every rule gets that has them, such as `wordnet`.

    Raises:
        UserError: an entry is no rule, or an option of it is wrong.
    """
    return tuple(_rule(entry, common) for entry in entries)


def _rule(entry: object, common: Mapping[str, Value]) -> Rule:
    name, options = _named(entry)
    if name == "not":
        inner = options if isinstance(options, list) else [options]
        parts = rules_from(inner, common)
        return Not(parts[0] if len(parts) == 1 else All(parts))
    if name in ("all", "any"):
        if not isinstance(options, list) or not options:
            raise UserError(f"rules: `{name}` takes a list of rules")
        parts = rules_from(options, common)
        return All(parts) if name == "all" else Any(parts)
    kind = RULES.get(name)
    if kind is None:
        known = [*RULES, *COMBINED]
        cure = suggest(name, known)
        raise UserError(f"rules: {name!r} is not a rule; known: {', '.join(known)}{cure}")
    if name == "uids" and isinstance(options, str):
        options = {"path": options}
    if options is not None and not isinstance(options, dict):
        raise UserError(f"rules: `{name}` takes options, as {{{name}: {{key: value}}}}")
    own = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    given = {key: value for key, value in common.items() if key in own and value is not None}
    return build(kind, {**given, **(options or {})}, f"rules: {name}")


def _named(entry: object) -> tuple[str, Value]:
    if isinstance(entry, str):
        return entry, None
    if isinstance(entry, dict) and len(entry) == 1:
        return next(iter(entry.items()))
    raise UserError(
        f"rules: {entry!r} is no rule; write a name, or one name with its options, such as "
        "{clip_score: {arch: l14, fraction: 0.3}}"
    )


def build(kind: type[Part], options: Mapping[str, Value], where: str) -> Part:
    """Build a dataclass from options, validated by the types of its fields.

    Raises:
        UserError: an option is unknown, missing or of a wrong type.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    try:
        found = parser.parse_object(dict(options))
        return kind(**found.as_dict())
    except ArgumentError as error:
        known = list(parser.get_defaults().keys())
        raise UserError(f"{where}: {explain(str(error), known)}") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
