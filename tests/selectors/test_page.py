"""The examples on the selectors page work."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from tests.conftest import fit_arguments

PAGE = Path(__file__).parents[2] / "docs" / "selectors.md"


def block(language: str) -> str:
    """The code block of a language in the part on adding a selector."""
    part = PAGE.read_text(encoding="utf-8").split("\n## Add a selector\n")[1]
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", part, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return textwrap.dedent(found[0][1])


def test_documented_selector_runs_from_file_and_config(
    pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_method.py").write_text(block("python"))
    (tmp_path / "far.yaml").write_text(block("yaml"))
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "run"
    arguments = fit_arguments(pool_folder, out, "--config", str(tmp_path / "far.yaml"))
    assert main(["select", *arguments[1:]]) == 0
    rows = pq.read_table(out / "selection" / "selection.parquet").to_pylist()
    chosen = [row["score"] for row in rows if row["selected"]]
    left = [row["score"] for row in rows if not row["selected"]]
    assert len(chosen) == round(0.25 * len(rows)) and min(chosen) >= max(left)


@pytest.mark.parametrize("name", ["SizeBalanced", "ZCore"])
def test_shipped_selector_runs_by_name(name: str, pool_folder: Path, tmp_path: Path) -> None:
    arguments = fit_arguments(pool_folder, tmp_path / "run", "--selector", name)
    assert main(["select", *arguments[1:]]) == 0
    rows = pq.read_table(tmp_path / "run" / "selection" / "selection.parquet").to_pylist()
    assert sum(row["selected"] for row in rows) == round(0.25 * len(rows))
    assert not (tmp_path / "run" / "models" / "reference").exists()
