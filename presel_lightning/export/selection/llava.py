"""LLaVA JSON: the annotated records, with absolute image paths or copied images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from presel_lightning.export.selection.source import SelectedSample
from presel_lightning.export.selection.target import ListTarget, write_list


class LlavaJson(ListTarget):
    """`selection.json`, for LLaVA's `--data_path` and other tools that read its format."""

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write the records, each with our own fields under `presel`."""
        with (folder / "selection.json").open("w", encoding="utf-8") as handle:
            write_list((self.record(each, folder) for each in samples), handle)

    def record(self, selected: SelectedSample, folder: Path) -> dict[str, Any]:
        """The record of a sample; `image` is a list where it has several."""
        places = self.places(selected, folder)
        return {**selected.sample.record, "image": places if len(places) > 1 else places[0]}
