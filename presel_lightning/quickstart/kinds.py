"""Pools of one world, made to differ in what makes a choice hard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from presel_lightning.errors import UserError

TASKS = ("background", "shape", "count", "caption", "colour", "position", "ocr")
"""From what the shipped model learns most easily to what it learns least easily."""

SIZES: dict[str, int] = {
    "position": 320,
    "ocr": 280,
    "shape": 260,
    "caption": 220,
    "count": 180,
    "colour": 160,
    "background": 80,
}
"""Records of each task in the embedded pool, 1500 together."""

TOTAL = 1500


@dataclass(frozen=True)
class Kind:
    """What a pool is made of.

    Attributes:
        sizes: records of each task.
        corrupt: share of the records whose image is noise or whose answer is another's, in turn.
        scenes: tasks that show so few scenes over and over, as cameras do that stand still.
    """

    sizes: Mapping[str, int]
    corrupt: float = 0.0
    scenes: Mapping[str, int] = field(default_factory=dict)


def shares(*parts: float) -> dict[str, int]:
    """Sizes of the tasks in these proportions, 1500 together."""
    whole = sum(parts)
    edges = [round(TOTAL * sum(parts[:place]) / whole) for place in range(len(parts) + 1)]
    return {task: edges[i + 1] - edges[i] for i, task in enumerate(TASKS)}


ZIPF = tuple(1 / rank for rank in range(1, len(TASKS) + 1))
KINDS: dict[str, Kind] = {
    "": Kind(SIZES),
    "equal": Kind(shares(*[1.0] * len(TASKS))),
    "hard_small": Kind(shares(*ZIPF)),
    "easy_small": Kind(shares(*reversed(ZIPF))),
    "corrupt": Kind(shares(*[1.0] * len(TASKS)), corrupt=0.2),
    "giant": Kind(shares(6.0, *[1.0] * (len(TASKS) - 1)), scenes={"background": 6}),
}
"""Pools by what follows `quickstart:`; the first is `quickstart` alone."""


def kind_of(name: str) -> Kind:
    """Find a pool by its name.

    Raises:
        UserError: there is none.
    """
    if name not in KINDS:
        known = ", ".join(f"quickstart:{kind}" for kind in KINDS if kind)
        raise UserError(f"data.annotations quickstart:{name} is unknown; choose of {known}")
    return KINDS[name]
