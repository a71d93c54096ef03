"""What a test needs beside the package itself: `make test` installs all of it."""

from __future__ import annotations

import importlib
import os
import shutil
from typing import Any, NoReturn

import pytest

BROWSERS = ("chromium", "google-chrome")


def require(module: str) -> Any:
    """Import an optional module; without it the test is skipped, in CI (`CI=true`) it fails."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # a dependency of it that is missing is a broken installation, not an absent option
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
    _missing(module.partition(".")[0])


def require_browser() -> str:
    """Return the path of the system's Chromium, with the same rule; nothing is downloaded."""
    named = os.environ.get("CHROMIUM")
    program = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    return program or _missing("Chromium (Debian's package `chromium`, or its path in $CHROMIUM)")


def _missing(what: str) -> NoReturn:
    message = f"needs {what}, which `make test` installs"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message, allow_module_level=True)
