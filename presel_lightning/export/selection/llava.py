"""LLaVA JSON: the records as they were annotated, with image paths that hold anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from presel_lightning.export.selection.source import Chosen
from presel_lightning.export.selection.target import ListTarget, write_list


class LlavaJson(ListTarget):
    """`selection.json`, for LLaVA's `--data_path` and whatever else reads its format."""

    def write(self, samples: Iterable[Chosen], folder: Path, final: Path) -> None:
        """Write the records, each with `uid` and `task`."""
        with (folder / "selection.json").open("w", encoding="utf-8") as handle:
            write_list(
                ({**each.sample.record, "image": self.place(each, folder)} for each in samples),
                handle,
            )
