"""Print pip constraints: the lowest version that pyproject.toml allows of each dependency.

Torch keeps the version that the Makefile names, as an old build may not exist for this machine.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
BOUND = re.compile(r"([\w.-]+)(?:\[.*\])?\s*>=\s*([\w.]+)")


def lowest(project: dict[str, Any]) -> Iterator[str]:
    """`name==version` of each requirement with a lower bound, those of the extras included."""
    optional = project.get("optional-dependencies", {}).values()
    for requirement in [*project["dependencies"], *(line for group in optional for line in group)]:
        found = BOUND.match(requirement)
        if found and found[1] != "torch":
            yield f"{found[1]}=={found[2]}"


if __name__ == "__main__":
    print(*dict.fromkeys(lowest(tomllib.loads(PROJECT.read_text())["project"])), sep="\n")
