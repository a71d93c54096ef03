"""Classes that a configuration names by path: why one of them cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping

from presel_lightning.errors import UserError
from presel_lightning.run.own_code import fault_of, find_class

PATH = r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)"
"""A dotted path."""
NAMED = re.compile(
    rf"class_path(?:'?: ?|=| )'{PATH}'|but {PATH} is abstract|Import path {PATH} does not"
)
"""A class path in a message of jsonargparse."""
QUOTED = re.compile(rf"'{PATH}'")
GIVEN = re.compile(r"Given value: (.*)")
NO_SUBCLASS = re.compile(r"does not correspond to a subclass of (?:\(?)(\w+)")
ABSTRACT = "Expected an instantiatable class, but"


def examine_classes(message: str, kinds: Mapping[str, type]) -> None:
    """Import the classes that an error of jsonargparse is about, for the cause that it leaves out.

    Args:
        message: message of the error.
        kinds: base classes of the keys that take a class.

    Raises:
        UserError: one cannot be imported, is not there, is no class of its kind, or lacks methods.
    """
    key = re.match(r'\s*Parser key "(.*?)"', message)
    if key is None:
        return
    base = kinds.get(key[1])
    kind = None
    if found := NO_SUBCLASS.search(message):
        kind = found[1]
    elif ABSTRACT in message:
        kind = (base or object).__name__
    for path in paths_in(message, is_class=base is not None):
        what = find_class(path)
        if kind is not None and (fault := fault_of(what, path, kind)):
            raise UserError(f"{key[1]} {fault}")


def paths_in(message: str, *, is_class: bool) -> list[str]:
    """Return the class paths that a message names, each once.

    Args:
        message: message of the error.
        is_class: whether the given value is a class.
    """
    values = " ".join(GIVEN.findall(message))
    paths = [path for found in NAMED.findall(message) for path in found if path]
    if "Union subtypes" in message:  # it names all abstract classes of the union
        paths = [path for path in paths if path.rpartition(".")[2] in values]
    if is_class:
        for given in GIVEN.findall(message):
            whole = re.fullmatch(PATH, given)
            paths += [given] if whole else QUOTED.findall(given) if given.startswith("[") else []
    return list(dict.fromkeys(paths))
