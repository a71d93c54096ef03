"""Any key with any value: refused in one line that names the key, or examined to the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.main import main
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


@settings(max_examples=200)
@given(key=st.sampled_from(KEYS), value=ANY)
def test_parser_any_value_is_taken_or_refused_by_key(
    parser: ArgumentParser, key: tuple[str, list[str]], value: str
) -> None:
    name, options = key
    line = refusal(parser, [*find_configs(BASE)[0], *set_to(options, value)])
    assert line is None or names_key(name, line), line


@settings(max_examples=25)
@given(key=st.sampled_from(KEYS), value=ANY)
def test_check_any_value_is_examined_without_a_traceback(
    parser: ArgumentParser,
    pool_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    key: tuple[str, list[str]],
    value: str,
) -> None:
    """What the parser takes is built and examined; a value that others depend on is refused here."""
    name, options = key
    own = set_to(options, value)
    outside = ("out", "annotator", "model.checkpoint", "stages.features.model.checkpoint")
    if name.startswith(outside) or refusal(parser, [*find_configs(BASE)[0], *own]) is not None:
        return
    out = tmp_path_factory.mktemp("examined")
    annotations = ["--data.annotations", str(pool_folder / "train.json")]
    words = [*BASE, *annotations, "--out", str(out / "run"), *own]
    assert main(["check", *words]) in (0, 2)
