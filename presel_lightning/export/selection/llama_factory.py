"""LLaMA-Factory: ShareGPT conversations and the `dataset_info.json` that describes them.

Source: LLaMA-Factory's data/README.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from presel_lightning.export.selection.source import SelectedSample
from presel_lightning.export.selection.target import ListTarget, questions, write_list
from presel_lightning.records import system_prompt
from presel_lightning.run.files import write_json

NAME = "presel"
"""Name of the dataset in LLaMA-Factory."""

DESCRIPTION = {
    "file_name": "selection.json",
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "images": "images", "system": "system"},
    "tags": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
    },
}


class LlamaFactory(ListTarget):
    """A folder for `dataset_dir`, with one dataset, `presel`.

    LLaMA-Factory requires as many `<image>`, `<video>` and `<audio>` as there are files of each, so each
    conversation holds exactly as many `<image>` as its record has images.
    """

    placeholders = ("<image>", "<video>", "<audio>")

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write conversations and description; relative image paths are those of `media_dir`."""
        with (folder / "selection.json").open("w", encoding="utf-8") as handle:
            write_list((self.record(each, folder) for each in samples), handle)
        write_json(folder / "dataset_info.json", {NAME: DESCRIPTION})

    def record(self, selected: SelectedSample, folder: Path) -> dict[str, Any]:
        """Build the record of one conversation."""
        return {
            "conversations": list(entries(selected)),
            "system": system_prompt(selected.sample.turns),
            "images": self.places(selected, folder),
            "uid": selected.uid,
            **({"weight": selected.weight} if selected.weighted else {}),
        }


def entries(selected: SelectedSample) -> Iterator[dict[str, str]]:
    """Yield the turns in ShareGPT form."""
    for question, answer in questions(selected.sample.turns):
        yield {"from": "human", "value": question}
        yield {"from": "gpt", "value": answer}
