"""ms-swift: its standard format, messages and images of one sample per line.

Source: ms-swift's documentation, "Custom Dataset".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from presel_lightning.export.selection.source import SelectedSample
from presel_lightning.export.selection.target import ListTarget, questions
from presel_lightning.records import system_prompt


class MsSwift(ListTarget):
    """`train.jsonl`, for `swift sft --dataset`; image paths are absolute, as ms-swift advises."""

    placeholders = ("<image>", "<video>", "<audio>", "<bbox>", "<ref-object>")

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write one conversation per line."""
        with (folder / "train.jsonl").open("w", encoding="utf-8") as handle:
            for each in samples:
                line = {
                    "messages": list(messages(each)),
                    "images": [str(final / place) for place in self.places(each, folder)],
                    "uid": each.uid,
                }
                handle.write(json.dumps(line, ensure_ascii=False) + "\n")


def messages(selected: SelectedSample) -> Iterator[dict[str, Any]]:
    """Yield the turns in OpenAI's format, `<image>` in the text; answers carry their weight."""
    if system := system_prompt(selected.sample.turns):
        yield {"role": "system", "content": system}
    scale = {"loss_scale": selected.weight} if selected.weighted else {}
    for question, answer in questions(selected.sample.turns):
        yield {"role": "user", "content": question}
        yield {"role": "assistant", "content": answer, **scale}
