"""LLaMA-Factory: ShareGPT conversations and the `dataset_info.json` that describes them.

Source: LLaMA-Factory's data/README.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from presel_lightning.export.selection.source import Chosen
from presel_lightning.export.selection.target import ListTarget, questions, write_list
from presel_lightning.run.files import write_json

NAME = "presel"
"""What the dataset is called there."""

DESCRIPTION = {
    "file_name": "selection.json",
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "images": "images"},
    "tags": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
    },
}


class LlamaFactory(ListTarget):
    """A folder for `dataset_dir`, with one dataset, `presel`.

    There must be as many `<image>` as images, so that each conversation holds exactly one.
    """

    def write(self, samples: Iterable[Chosen], folder: Path, final: Path) -> None:
        """Write conversations and description; relative image paths are those of `media_dir`."""
        with (folder / "selection.json").open("w", encoding="utf-8") as handle:
            write_list((self.record(each, folder) for each in samples), handle)
        write_json(folder / "dataset_info.json", {NAME: DESCRIPTION})

    def record(self, chosen: Chosen, folder: Path) -> dict[str, Any]:
        """One conversation."""
        return {
            "conversations": list(entries(chosen)),
            "images": [self.place(chosen, folder)],
            "uid": chosen.sample.uid,
        }


def entries(chosen: Chosen) -> Iterator[dict[str, str]]:
    """The turns as ShareGPT has them."""
    for question, answer in questions(chosen.sample.turns):
        yield {"from": "human", "value": question}
        yield {"from": "gpt", "value": answer}
