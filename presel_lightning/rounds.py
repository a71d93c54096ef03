"""Earlier rounds of one run folder: what was annotated once is not chosen away."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.store import read_json, write_json


class Rounds:
    """What earlier runs in a folder drew and chose.

    Args:
        out: the run folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out / "rounds.json"

    def reference(self, pool: Pool, seed: int) -> list[str]:
        """Uids of the reference split that was drawn with this seed and are still in the pool."""
        drawn = self._read().get("reference", {})
        return present(pool, drawn["uids"]) if drawn.get("seed") == seed else []

    def draw(self, seed: int, uids: Iterable[str]) -> None:
        """Write down the reference split of a seed."""
        if uids := list(uids):
            write_json(self.path, {**self._read(), "reference": {"seed": seed, "uids": uids}})

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.path) if self.path.exists() else {}
        return found

    def selected(self, pool: Pool, method: str, budget: int) -> list[str]:
        """Uids that this method added at the largest budget below this one.

        Those that have left the pool, or have come into the reference split, are not among them.
        """
        below = [found for found in self.read(method) if found["budget"] < budget]
        uids = present(pool, below[-1]["uids"]) if below else []
        rows = pool.rows(uids)
        found: list[str] = pool.uid[rows[~pool.reference[rows]]].tolist()
        return found

    def read(self, method: str) -> list[dict[str, Any]]:
        """Rounds of a method, the smallest budget first."""
        found = self._read()
        rounds: list[dict[str, Any]] = found.get("rounds", [])
        return rounds if found.get("method") == method else []

    def add(self, method: str, budget: int, uids: Iterable[str]) -> None:
        """Write down a round, in place of those that were as large or larger."""
        below = [found for found in self.read(method) if found["budget"] < budget]
        rounds = [*below, {"budget": budget, "uids": list(uids)}]
        write_json(self.path, {**self._read(), "method": method, "rounds": rounds})


def present(pool: Pool, uids: Iterable[str]) -> list[str]:
    """Those uids that the pool holds, in its order."""
    wanted = np.array(sorted(set(uids)), dtype=object)
    if not len(wanted) or not len(pool):
        return []
    places = np.searchsorted(pool.uid, wanted).clip(max=len(pool) - 1)
    found: list[str] = wanted[pool.uid[places] == wanted].tolist()
    return found
