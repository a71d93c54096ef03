"""Values that a numeric option takes, and the range that its error message names."""

from __future__ import annotations

from typing import Any

import pytest
from jsonargparse import ArgumentError, ArgumentParser

from presel_lightning.run import ranges

TAKEN: list[tuple[str, str, Any]] = [
    ("Count", "3", 3),
    ("NaturalNumber", "0", 0),
    ("Seed", "4294967295", 2**32 - 1),
    ("NonNegative", "1e-4", 1e-4),
    ("NonNegative", "2", 2.0),
    ("Fraction", "1", 1.0),
    ("Size", "0.15", 0.15),
    ("Size", "1", 1),
    ("Size", "100", 100),
    ("Part", "1.0", 1.0),
    ("PartOrNone", "0", 0),
    ("Steps", "-1", -1),
    ("Duration", "00:01:00:00", "00:01:00:00"),
    ("Duration", "{minutes: 3}", {"minutes": 3}),
]
REFUSED = [
    ("Count", ["0", "-1", "1.5", "nan", "1e400", "", "null", "[1]", "{a: 1}", "true", "9" * 500]),
    ("Workers", ["0", "1025"]),
    ("Positive", ["0", "-1", "inf", "nan", "1e400", "", "null", "true", "word"]),
    ("ProperFraction", ["1", "-0.1", "nan"]),
    ("Size", ["0", "1.5", "-1", "nan", "true", "2147483648"]),
    ("PartOrNone", ["-1", "1.5"]),
    ("Steps", ["0", "-2"]),
    (
        "Duration",
        ["00:00:00:00", "10m", "{minutes: -1}", "{a: 1}", "{days: 1.0e+30}", "60", "null"],
    ),
]


def read(name: str, value: str) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--key", type=getattr(ranges, name))
    return parser.parse_args([f"--key={value}"]).key


@pytest.mark.parametrize(("name", "value", "expected"), TAKEN)
def test_range_takes_plain_numbers_inside(name: str, value: str, expected: Any) -> None:
    found = read(name, value)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(("name", "values"), REFUSED)
def test_range_refuses_other_values_and_names_itself(name: str, values: list[str]) -> None:
    for value in values:
        with pytest.raises(ArgumentError, match="Expected a"):
            read(name, value)


def test_range_is_printed_by_help() -> None:
    parser = ArgumentParser()
    parser.add_argument("--rate", type=ranges.ProperFraction | None)
    parser.add_argument("--threads", type=ranges.Workers)
    text = " ".join(parser.format_help().split())
    assert "0 <= float < 1 | null" in text.replace(
        "Optional[0 <= float < 1]", "0 <= float < 1 | null"
    )
    assert "type: 1 <= int <= 1024" in text
