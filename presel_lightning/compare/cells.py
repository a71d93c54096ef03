"""The grid of a comparison: one cell per selector, budget and seed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from presel_lightning.errors import UserError
from presel_lightning.run.ranges import Seed, Size, Workers

Json = dict[str, Any]

FULL = "full"
"""Label of the cells that are trained on full data."""
EVERYTHING = 1.0
LABEL = re.compile(r"[A-Za-z0-9_.+]+")


@dataclass(frozen=True)
class Entry:
    """A selector with its label in the tables."""

    label: str
    selector: Json


@dataclass(frozen=True)
class Cell:
    """One selector at one budget with one seed."""

    entry: Entry
    budget: Size
    seed: int

    @property
    def name(self) -> str:
        """Name of the cell's folder."""
        return f"{self.entry.label}-{self.budget:.12g}-{self.seed}"


@dataclass
class GridKeys:
    """Keys of a config for `compare`; each is an option of the command line too."""

    selectors: list[str | Json] = field(default_factory=lambda: ["PreSel", "Random"])
    """`compare`: names, or {class_path, init_args, label}"""
    budgets: list[Size] = field(default_factory=list)
    """`compare`: values of data.budget; by default its value"""
    seeds: list[Seed] = field(default_factory=lambda: [0, 1, 2])
    """`compare`: seeds of reference split, random selection and training"""
    equal: Literal["epochs", "steps"] = "epochs"
    """`compare`: train all cells for the same epochs, or for the steps of full data"""
    workers: Workers | None = None
    """`compare`: parallel fits; by default as many as the CPU cores or GPUs allow"""
    pools: list[str] = field(default_factory=list)
    """`compare`: values of data.annotations; by default its value"""


@dataclass
class Grid(GridKeys):
    """The grid of a comparison.

    Attributes:
        full: whether a cell per seed is trained on full data.
    """

    full: bool = True

    def entries(self) -> list[Entry]:
        """Return the selectors with their labels.

        Raises:
            UserError: there is none, a label repeats, or a label is not a valid folder name.
        """
        found = [entry_of(selector) for selector in self.selectors]
        labels = [entry.label for entry in found]
        if not found:
            raise UserError("selectors is empty; name some, such as --selectors PreSel Random")
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise UserError(f"selectors: {twice[0]} comes twice; give each entry its own `label`")
        return found

    def cells(self) -> list[Cell]:
        """Return every cell, those of full data last."""
        if len(set(self.seeds)) < len(self.seeds) or len(set(self.budgets)) < len(self.budgets):
            raise UserError("seeds and budgets must not repeat a value")
        cells = [
            Cell(entry, budget, seed)
            for seed in self.seeds
            for budget in self.budgets
            for entry in self.entries()
        ]
        everything = Entry(FULL, {"class_path": "Random"})
        return cells + [Cell(everything, EVERYTHING, seed) for seed in self.seeds if self.full]


def entry_of(selector: str | Json) -> Entry:
    """Read one item of `selectors`.

    Raises:
        UserError: it has no class path, or a label that is not a valid folder name.
    """
    spec = {"class_path": selector} if isinstance(selector, str) else dict(selector)
    if not isinstance(spec.get("class_path"), str):
        raise UserError(
            f"selectors: {selector} names no class; give a name, or class_path with init_args"
        )
    label = str(spec.pop("label", None) or spec["class_path"].rsplit(".", 1)[-1])
    if not LABEL.fullmatch(label) or label in (FULL, "untrained"):
        raise UserError(f"selectors: label {label!r} will not do; use letters, digits and _ . +")
    unknown = set(spec) - {"class_path", "init_args"}
    if unknown:
        raise UserError(f"selectors: {', '.join(sorted(unknown))} of {label} is unknown")
    return Entry(label, spec)


def resolved(spec: Json, configured: Json) -> Json:
    """Return the class path and arguments of a cell's selector.

    Args:
        spec: of an entry of `selectors`; its arguments are all that differ from the defaults.
        configured: of the key `selector`; it stands for a bare name of the same class.
    """
    same = spec["class_path"].rsplit(".", 1)[-1] == configured["class_path"].rsplit(".", 1)[-1]
    return configured if same and not spec.get("init_args") else spec
