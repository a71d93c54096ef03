"""The ledger of a run, `run.json`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from presel_lightning.run.files import read_json, write_json

CUT_SHORT = "cut short"
"""Status of a fit that its time limit ended before its last step."""
FINISHED = ("done", CUT_SHORT)
CELL = "cell.yaml"
"""Configuration that `compare` writes into the folders of its cells and reference splits."""


def is_of_comparison(run: Path) -> bool:
    """Return whether a run folder is a cell or a reference split of a comparison."""
    return (run / CELL).is_file()


class Ledger:
    """`run.json`: what each stage made, from what, in how long; the only mark that it is done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        """The whole ledger; an empty one where the run has not begun."""
        return read_json(self.path) if self.path.exists() else {"stages": {}}

    def stage(self, name: str) -> dict[str, Any]:
        """What is known of one stage."""
        stage: dict[str, Any] = self.read()["stages"].get(name, {})
        return stage

    def is_done(self, name: str, key: str, artifacts: Iterable[Path]) -> bool:
        """Whether a stage ended with this fingerprint and what it made still lies there."""
        stage = self.stage(name)
        done = stage.get("status") in FINISHED and stage.get("fingerprint") == key
        return done and all(path.exists() for path in artifacts)

    def update(self, **facts: Any) -> None:  # noqa: ANN401 - any JSON value
        """Add facts about the whole run."""
        write_json(self.path, {**self.read(), **facts})

    def record(self, name: str, **facts: Any) -> None:  # noqa: ANN401 - any JSON value
        """Replace what is known of one stage."""
        ledger = self.read()
        ledger["stages"][name] = facts
        write_json(self.path, ledger)
