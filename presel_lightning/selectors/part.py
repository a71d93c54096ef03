"""The interface of what a selector leaves to a class of its own."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import TypeVar

from presel_lightning.errors import UserError


class Part(ABC):
    """A choice inside a selector that can be replaced alone, such as how tasks share a budget."""

    needs: tuple[str, ...] = ()
    """Signals that must lie on disk."""

    def fingerprint(self) -> object:
        """What the selection rests on here: the class and its options.

        A part that reads a file adds the content.
        """
        return [type(self).__name__, vars(self)]


P = TypeVar("P", bound=Part)


def part_of(given: P | str, key: str, known: Mapping[str, type[P]]) -> P:
    """Return a part as it is, or build the one that a short name or a class name stands for.

    Args:
        given: the part, a short name, or the name of one of the known classes.
        key: argument of the selector that takes the part, for the error message.
        known: classes by short name.

    Raises:
        UserError: there is no such name.
    """
    if not isinstance(given, str):
        return given
    by_name = {rule.__name__: rule for rule in known.values()} | dict(known)
    if given not in by_name:
        raise UserError(
            f"selector.init_args.{key} {given!r} is unknown; choose of {', '.join(known)}, or give a "
            "class: class_path with init_args"
        )
    return by_name[given]()
