"""The 480 photographs: what a small tokenizer makes of real instructions."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import AutoTokenizer

from presel_lightning.quickstart import CHECKPOINT


def test_tokenizer_photo_instructions_round_trip(shared: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    records = json.loads((shared / "photo_pool" / "annotations.json").read_text(encoding="utf-8"))
    texts = {turn["value"] for record in records for turn in record["conversations"]}
    assert len(texts) > 100
    changed = [
        text
        for text in texts
        if tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) != text
    ]
    assert changed == []
