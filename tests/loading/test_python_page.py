"""The page on the Python door does what it says, block after block."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule

ROOT = Path(__file__).parents[2]
PAGE, README = ROOT / "docs" / "python.md", ROOT / "README.md"


def test_every_block_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        assert block.count("\n") <= 12, "a block is ten lines"
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - the page's own code


def test_blocks_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    np.save("features.npy", np.random.default_rng(0).normal(size=(200, 8)).astype("float32"))
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)  # noqa: S102 - the page's own code
    assert len(names["rows"]) == 30 and not set(names["rows"]) & set(names["more"])
    assert len(names["selection"].uids) == 0.15 * len(names["pool"])


def test_public_names_of_the_page_are_those_of_the_modules() -> None:
    rows = re.findall(r"^\| `(presel_lightning[.\w]*)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 11
    for path, names in rows:
        module = importlib.import_module(path)
        public = set(module.__all__)
        assert [name for name in public if not hasattr(module, name)] == []
        listed = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", names)))
        if "every name of `__all__`" in names:
            assert listed - {"__all__"} <= public, path
        else:
            assert listed == public, path


def test_calls_in_a_wrong_order_name_the_missing_one() -> None:
    data = SelectionDataModule("quickstart")
    with pytest.raises(UserError, match="read_pool"):
        _ = data.pool
    with pytest.raises(UserError, match="train_on"):
        data.train_dataloader()
    with pytest.raises(UserError, match="pair_up, read_as, show or match"):
        data.predict_dataloader()
