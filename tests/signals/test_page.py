"""The page on signals does what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tests.conftest import fit_arguments

ROOT = Path(__file__).parents[2]
SELECTOR = '''
from typing import ClassVar

import torch

from presel_lightning.selectors import RankSelector


class Brightest(RankSelector):
    """The brightest images."""

    needs: ClassVar[tuple[str, ...]] = ("brightness",)

    def score(self, pool, signals):
        return torch.from_numpy(signals.brightness(pool, pool.rows(pool.uid)))
'''


def steps() -> list[tuple[str, str]]:
    """The file that each step of the page names, and its code block."""
    page = (
        (ROOT / "docs" / "signals.md").read_text(encoding="utf-8").split("\n## Add a signal\n")[1]
    )
    found = re.findall(
        r"^\d\. (?:A line in )?`(\S+)`:\n+( *)```python\n(.*?)^\2```",
        page,
        re.MULTILINE | re.DOTALL,
    )
    return [(file, textwrap.dedent(code)) for file, _, code in found]


def test_new_signal_is_two_files_and_two_import_lines(pool_folder: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "presel_lightning", tree / "presel_lightning", ignore=unwanted)
    added = []
    for file, code in steps():
        added.append((tree / file).exists())
        with (tree / file).open("a", encoding="utf-8") as handle:
            handle.write(code)
    assert added == [False, False, True, True]
    (tree / "brightest.py").write_text(SELECTOR)
    out = tmp_path / "run"
    arguments = fit_arguments(pool_folder, out, "--selector", "brightest.Brightest")
    command = [sys.executable, "-m", "presel_lightning", "select", *arguments[1:]]
    subprocess.run(command, check=True, cwd=tree, env=environment(tree), capture_output=True)
    stages = json.loads((out / "run.json").read_text())["stages"]
    assert stages["brightness"]["status"] == "done" and "features" not in stages
    rows = pq.read_table(out / "selection" / "selection.parquet").to_pylist()
    pool = pq.read_table(out / "pool.parquet").to_pylist()
    image = {row["uid"]: pool_folder / row["image"] for row in pool}
    for row in rows[::10]:
        with Image.open(image[row["uid"]]) as picture:
            gray = np.asarray(picture.convert("RGB").convert("L")).mean() / 255
        assert abs(row["score"] - gray) < 1e-6


def environment(tree: Path) -> dict[str, str]:
    """The environment of a process that imports the package of another tree."""
    return {**os.environ, "PYTHONPATH": str(tree)}
