"""LLaVA JSON: the annotated records, with absolute image paths or copied images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from presel_lightning.export.selection.source import SelectedSample
from presel_lightning.export.selection.target import ListTarget, write_list


class LlavaJson(ListTarget):
    """`selection.json`, for LLaVA's `--data_path` and other tools that read its format."""

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write the records, each with our own fields under `presel`."""
        with (folder / "selection.json").open("w", encoding="utf-8") as handle:
            write_list(
                ({**each.sample.record, "image": self.place(each, folder)} for each in samples),
                handle,
            )
