"""The libraries that a result may depend on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from presel_lightning import __version__

LIBRARIES = ("torch", "transformers", "peft", "lightning", "numpy", "pyarrow")


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    return (("presel_lightning", __version__), *((name, version(name)) for name in LIBRARIES))


def versions() -> dict[str, str]:
    """Version of the project and of each library that a stage's result may depend on."""
    return dict(_installed())


def other_versions(made_by: Mapping[str, str]) -> str:
    """Libraries of which another version made a result; empty where none did.

    Args:
        made_by: versions that made it; a library that is not among them is ignored.
    """
    now = versions()
    changed = [name for name in made_by if name in now and made_by[name] != now[name]]
    return ", ".join(f"{name} {made_by[name]} (now {now[name]})" for name in changed)
