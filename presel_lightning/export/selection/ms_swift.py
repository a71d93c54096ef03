"""ms-swift: its standard format, messages and images a line.

Source: ms-swift's documentation, "Custom Dataset".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from presel_lightning.export.selection.source import Chosen
from presel_lightning.export.selection.target import ListTarget, questions


class MsSwift(ListTarget):
    """`train.jsonl`, for `swift sft --dataset`; image paths are absolute, as is advised there."""

    def write(self, samples: Iterable[Chosen], folder: Path, final: Path) -> None:
        """Write a conversation a line."""
        with (folder / "train.jsonl").open("w", encoding="utf-8") as handle:
            for each in samples:
                line = {
                    "messages": list(messages(each)),
                    "images": [str(final / self.place(each, folder))],
                    "uid": each.sample.uid,
                }
                handle.write(json.dumps(line, ensure_ascii=False) + "\n")


def messages(chosen: Chosen) -> Iterator[dict[str, Any]]:
    """The turns as OpenAI's format has them, `<image>` in the text; answers with their weight."""
    scale = {"loss_scale": chosen.weight} if chosen.weighted else {}
    for question, answer in questions(chosen.sample.turns):
        yield {"role": "user", "content": question}
        yield {"role": "assistant", "content": answer, **scale}
