"""Any key with any value: refused in one line that names the key, or examined to the end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.training import parse
from tests.cli.keys import VALUES, every_key, names_key, refusal, set_to

BASE = ["--config", "quickstart.yaml", "--check_records", "4"]
KEYS = sorted(every_key())
NUMBERS = st.one_of(st.integers().map(str), st.floats().map(str))
ANY = st.one_of(st.sampled_from(VALUES), NUMBERS)


@pytest.fixture(scope="module")
def parser() -> ArgumentParser:
    """One parser for all examples; to build it takes longer than to parse with it."""
    return parse("check", find_configs(BASE)[0]).parser


@settings(max_examples=400)
@given(key=st.sampled_from(KEYS), value=ANY)
def test_parser_any_value_is_taken_or_refused_by_key(
    parser: ArgumentParser, key: tuple[str, list[str]], value: str
) -> None:
    name, options = key
    line = refusal(parser, [*find_configs(BASE)[0], *set_to(options, value)])
    assert line is None or names_key(name, line), line
