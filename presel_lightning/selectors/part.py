"""The interface of a replaceable part of a selector."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import TypeVar

from presel_lightning.errors import UserError
from presel_lightning.run.own_code import fault_of, find_class


class Part(ABC):
    """Base class of a replaceable part of a selector, such as the rule for task budgets."""

    needs: tuple[str, ...] = ()
    """Signals that the part reads."""

    def fingerprint(self) -> object:
        """Return what the selection depends on here: the class and its options.

        A part that reads a file adds the content.
        """
        return [type(self).__name__, vars(self)]


P = TypeVar("P", bound=Part)


def part_of(given: P | str, key: str, known: Mapping[str, type[P]], base: type[Part]) -> P:
    """Return a part as it is, or build the one of a short name or a class name.

    Args:
        given: the part, a short name, or the name of one of the known classes.
        key: argument of the selector that takes the part, for the error message.
        known: classes by short name.
        base: class that all of them are derived from.

    Raises:
        UserError: the name is unknown, or is the path of a class that cannot be used.
    """
    if not isinstance(given, str):
        return given
    if "." in given and all(name.isidentifier() for name in given.split(".")):
        # jsonargparse leaves a class that it cannot use to be read as a name
        fault = fault_of(find_class(given), given, base.__name__)
        cure = f"{given} needs arguments: give class_path with init_args"
        raise UserError(f"selector.init_args.{key} {fault or cure}")
    by_name = {rule.__name__: rule for rule in known.values()} | dict(known)
    if given not in by_name:
        raise UserError(
            f"selector.init_args.{key} {given!r} is unknown; choose from {', '.join(known)}, or give a "
            "class: class_path with init_args"
        )
    return by_name[given]()
