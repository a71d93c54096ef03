"""Any JSON value in any field of a record: a sample, a text, a listed problem, or one line."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from presel_lightning.data import build_pool, load_pool, source
from presel_lightning.data.cures import CURES
from presel_lightning.data.forms import FORMS
from presel_lightning.data.record_file import RecordReader, records_path
from presel_lightning.data.texts import Texts
from presel_lightning.errors import UserError

Record = dict[str, Any]

EXAMPLES = int(os.environ.get("RECORD_EXAMPLES", "500"))
BLOCK = 50
"""Records of a pool."""

KEYS = (*FORMS, "id", "image", "images", "task", "uid", "presel", "score", "weight", "conversation")
PARTS = ("from", "value", "role", "content", "type", "text", "user", "assistant", "path", "url")
WORDS = ("human", "gpt", "system", "assistant", "image", "image_url", "<image>", "<image>\nQ?", "A")
PATHS = ("0.png", "./0.png", "../0.png", "/0.png", "gone.png", ".", "", "0.png\0", "\ud800.png")
TEXTS = st.sampled_from((*WORDS, *PATHS)) | st.text(
    st.characters(codec=None, exclude_categories=()), max_size=8
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
HUGE = st.sampled_from([10**400, -(10**25), "x" * 100_000, ["0.png"] * 5000, [[[[[]]]]] * 9])
VALUES = st.recursive(
    SCALARS | HUGE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(PARTS) | TEXTS, inner, max_size=4)
    ),
    max_leaves=8,
)
GOOD: Record = {
    "id": "g",
    "image": "0.png",
    "task": "t",
    "conversations": [{"from": "human", "value": "<image>\nQ?"}, {"from": "gpt", "value": "A"}],
}
TEXT: Record = {
    "id": "t",
    "conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A"}],
}
FIELDS = st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=4)


@cache
def drawn(n: int) -> list[Record]:
    """Records, some sound before, of which one to four fields hold any values."""
    found: list[Record] = []

    @settings(max_examples=n, phases=[Phase.generate], database=None)
    @given(st.sampled_from([GOOD, TEXT, {}]), FIELDS)
    def collect(sound: Record, fields: Record) -> None:
        found.append({**sound, **fields})

    collect()
    return found


def numbers(out: Path) -> Iterator[str]:
    """Number in the file of each record that is a sample or a problem."""
    with (out / "problems.csv").open(encoding="utf-8", newline="") as handle:
        limit = csv.field_size_limit(1 << 30)
        for row in csv.DictReader(handle):
            assert row["problem"] in CURES and row["detail"], row
            yield row["record"]
        csv.field_size_limit(limit)
    with RecordReader(records_path(out)) as records:
        for row in np.load(out / "work" / "order.npy").tolist():
            yield str(records.value(row, "number"))


@pytest.mark.parametrize("form", ["list", "lines"])
def test_any_value_in_any_field_is_a_sample_a_text_or_a_problem(form: str, tmp_path: Path) -> None:
    """Each record is one of them under its own number, and every sample can be read."""
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    refused = 0
    kinds: Counter[str] = Counter()
    made = drawn(EXAMPLES)
    for start in range(0, EXAMPLES, BLOCK):
        records = [json.dumps(record) for record in (GOOD, *made[start : start + BLOCK])]
        text = "\n".join(records) if form == "lines" else f"[{', '.join(records)}]"
        (tmp_path / "a.json").write_text(text)
        out = tmp_path / "out"
        try:
            counts = build_pool(source(str(tmp_path / "a.json"), text_only=True), out)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        named = Counter(numbers(out))
        assert set(named.values()) == {1} and set(map(int, named)) <= set(
            range(1, len(records) + 1)
        )
        assert len(named) + counts.text_only == len(records)
        pool, texts = load_pool(out, tmp_path), Texts(out)
        assert len(pool) == counts.pool and len(texts) == counts.text_only
        samples = [pool.sample(row) for row in range(len(pool))]
        for turn in [t for sample in samples for t in sample.turns] + [
            t for row in range(len(texts)) for t in texts.turns(row)
        ]:
            assert turn.answer.strip() and isinstance(turn.question, str)
        kinds.update({"sample": counts.pool, "text": counts.text_only, **counts.by_problem})
    print(f"{EXAMPLES} records as {form}: {dict(kinds)}, {refused} files refused")
    assert refused < 0.1 * EXAMPLES / BLOCK
    assert min(kinds["sample"], kinds["text"]) > 0 and len(kinds) > 10
