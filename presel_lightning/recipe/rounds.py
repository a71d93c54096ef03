"""Earlier rounds of one run folder: what was annotated once is not chosen away."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.run.files import read_json, write_json


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

    def selected(
        self, pool: Pool, method: str, budget: int, without: Collection[str] = ()
    ) -> list[str]:
        """Uids that this method chose before and that go first now, as many as there is room for.

        Where the budget is raised, all that were ever chosen, in the order of their first choice:
        they may have been annotated. A lower budget keeps what smaller ones chose, and no more.
        Those that have left the pool, have come into the reference split, or are in `without`, are
        not among them.
        """
        rounds = self.read(method)
        if rounds and rounds[-1]["budget"] == budget:  # the same command again
            rounds.pop()
        raised = bool(rounds) and rounds[-1]["budget"] < budget
        counted = [found for found in rounds if raised or found["budget"] < budget]
        known = set(present(pool, once(counted))) - {*pool.uid[pool.reference], *without}
        room = budget - int(pool.reference.sum())
        return [uid for uid in once(counted) if uid in known][:room]

    def read(self, method: str) -> list[dict[str, Any]]:
        """Rounds of a method, the first one first."""
        found = self._read()
        rounds: list[dict[str, Any]] = found.get("rounds", [])
        return rounds if found.get("method") == method else []

    def add(self, method: str, budget: int, uids: Iterable[str]) -> None:
        """Write down a round: what it chose, best first."""
        rounds = self.read(method)
        if rounds and rounds[-1]["budget"] == budget:
            uids = once([rounds.pop(), {"uids": uids}])
        rounds.append({"budget": budget, "uids": list(uids)})
        write_json(self.path, {**self._read(), "method": method, "rounds": rounds})


def once(rounds: Iterable[dict[str, Any]]) -> dict[str, None]:
    """Uids of some rounds in the order of their first choice."""
    return dict.fromkeys(uid for found in rounds for uid in found["uids"])


def present(pool: Pool, uids: Iterable[str]) -> list[str]:
    """Those uids that the pool holds, in its order."""
    wanted = np.array(sorted(set(uids)), dtype=object)
    if not len(wanted) or not len(pool):
        return []
    places = np.searchsorted(pool.uid, wanted).clip(max=len(pool) - 1)
    found: list[str] = wanted[pool.uid[places] == wanted].tolist()
    return found
