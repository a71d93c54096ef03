"""Types of numeric options with their ranges: the parser refuses a value outside of them.

Each is a plain `int` or `float` for type checkers and at run time; jsonargparse validates a value
against the range, prints it in `--help`, and names it in the error message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from math import inf, isfinite, nan
from typing import TYPE_CHECKING

from jsonargparse.typing import register_type

LARGEST = 2**31 - 1
"""Largest whole number of an option that states no other limit."""

LONGEST = 100
"""Digits of a number that is read from a text."""

UNITS = ("days", "hours", "minutes", "seconds")

Number = int | float
Time = str | dict[str, Number]
Value = Number | Time


def whole(least: int, most: int = LARGEST) -> type:
    """Return a type of whole numbers from `least` to `most`."""

    def read(value: object) -> int:
        found = _as_int(value)
        if found is None or not least <= found <= most:
            limited = most < LARGEST or (found or 0) > most
            upper = f" to {most}" if limited else ""
            raise ValueError(f"Expected a whole number from {least}{upper}. Got value: {value}")
        return found

    return _registered(f"{least} <= int <= {most}" if most < LARGEST else f"int >= {least}", read)


def real(least: float, most: float = inf, *, above: bool = False, below: bool = False) -> type:
    """Return a type of finite numbers.

    Args:
        least: lower bound.
        most: upper bound.
        above: whether the lower bound itself is out of range.
        below: whether the upper bound itself is.
    """
    name = f"float {'>' if above else '>='} {least:g}"
    if most < inf:
        name = f"{least:g} {'<' if above else '<='} float {'<' if below else '<='} {most:g}"

    def read(value: object) -> float:
        found = _as_float(value)
        inside = isfinite(found) and least <= found <= most
        if not inside or (above and found == least) or (below and found == most):
            low, high = ("above" if above else "from"), ("below " if below else "")
            up = f" to {high}{most:g}" if most < inf else ""
            raise ValueError(f"Expected a number {low} {least:g}{up}. Got value: {value}")
        return found

    return _registered(name, read)


def limit(most: int = LARGEST) -> type:
    """Return a type of whole numbers from 1, or -1 where there is no limit."""

    def read(value: object) -> int:
        found = _as_int(value)
        if found is None or not (found == -1 or 1 <= found <= most):
            upper = f" to {most}" if (found or 0) > most else ""
            raise ValueError(f"Expected a whole number from 1{upper} (or -1). Got value: {value}")
        return found

    return _registered("int >= 1 or -1", read)


def share_or_count(least: int, *, none: bool = False) -> type:
    """Return the type of a fraction 0 < x <= 1 or a count.

    Args:
        least: smallest count that a message names; 1 is then everything.
        none: whether 0 is allowed.
    """
    lower = "<=" if none else "<"

    def read(value: object) -> Number:
        count, fraction = _as_int(value), _as_float(value)
        if count is not None and (1 - none) <= count <= LARGEST:
            return count
        if not 0 < fraction <= 1 and not (none and fraction == 0):
            upper = f" to {LARGEST}" if (count or 0) > LARGEST else ""
            phrase = f"a fraction 0 {lower} x <= 1 or a whole number from {least}{upper}"
            raise ValueError(f"Expected {phrase}. Got value: {value}")
        return fraction

    return _registered(f"0 {lower} float <= 1 or int >= {least}", read)


def duration() -> type:
    """Return the type of a time: DD:HH:MM:SS, or a mapping of units to numbers."""

    def read(value: object) -> Time:
        if not (isinstance(value, str | dict) and _seconds(value) > 0):
            units = "{days, hours, minutes, seconds: number}"
            raise ValueError(
                f"Expected a time above 0 as DD:HH:MM:SS or {units}. Got value: {value}"
            )
        return value

    return _registered("DD:HH:MM:SS", read)


def _seconds(value: Time) -> float:
    """Return the length of a time; 0 of what is none."""
    if isinstance(value, str):
        parts = re.fullmatch(r"(\d{1,5}):(\d\d):(\d\d):(\d\d)", value.strip())
        value = dict(zip(UNITS, map(int, parts.groups()), strict=True)) if parts else {}
    try:
        return timedelta(**value).total_seconds()
    except (TypeError, OverflowError, ValueError):
        return 0.0


def _as_int(value: object) -> int | None:
    """Return a whole number, or the one that a text holds."""
    if isinstance(value, str) and len(value) < LONGEST:
        try:
            return int(value)
        except ValueError:
            return None
    return value if type(value) is int else None


def _as_float(value: object) -> float:
    """Return a number, or the one that a text holds; anything else is not a number (NaN)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return nan


def _registered(name: str, read: Callable[[object], Value]) -> type:
    """Register a type whose values are plain ones, read by a function that refuses others."""

    def is_read(value: object, kind: type) -> bool:
        del kind
        try:
            return type(read(value)) is type(value)
        except ValueError:
            return False

    # `--help` prints the name of a subclass of a number as it is
    found = type(name, (float,), {})
    register_type(found, serializer=_same, deserializer=read, type_check=is_read)
    return found


def _same(value: Value) -> Value:
    return value


if TYPE_CHECKING:
    Count = int
    Several = int
    NaturalNumber = int
    Processes = int
    Workers = int
    Seed = int
    Quality = int
    Rank = int
    Draws = int
    Tokens = int
    Port = int
    Positive = float
    NonNegative = float
    Fraction = float
    ProperFraction = float
    Size = int | float
    Part = int | float
    PartOrNone = int | float
    Steps = int
    Epochs = int
    Duration = str | dict[str, int]
else:
    Count = whole(1)
    """At least one."""
    Several = whole(2)
    """At least two."""
    NaturalNumber = whole(0)
    """None, or some."""
    Processes = whole(0, 1024)
    """Processes beside the main one, or none."""
    Workers = whole(1, 1024)
    """Processes or threads that work at a time."""
    Seed = whole(0, 2**32 - 1)
    """Seed of numpy's generators."""
    Quality = whole(1, 100)
    """Quality of a JPEG."""
    Rank = whole(1, 65536)
    """Rank of an adapter."""
    Draws = whole(1, 10_000_000)
    """Random points that are held in memory."""
    Tokens = whole(1, 65536)
    """Tokens of an answer."""
    Port = whole(0, 65535)
    """TCP port of this machine; 0 takes a free one."""
    Positive = real(0, above=True)
    """Finite and above 0."""
    NonNegative = real(0)
    """Finite, 0 or more."""
    Fraction = real(0, 1)
    """From 0 to 1."""
    ProperFraction = real(0, 1, below=True)
    """From 0 to below 1."""
    Size = share_or_count(2)
    """Part of a pool."""
    Part = share_or_count(1)
    """Part of an epoch."""
    PartOrNone = share_or_count(1, none=True)
    """Part of an epoch, or nothing of it."""
    Steps = limit()
    """Steps, or -1."""
    Epochs = limit(1_000_000)
    """Epochs, or -1."""
    Duration = duration()
    """Time of a fit."""
