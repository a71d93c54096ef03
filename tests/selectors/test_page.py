"""The pages on selectors do what they say."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from tests.conftest import fit_arguments

DOCS = Path(__file__).parents[2] / "docs"


def block(language: str, page: str = "selectors.md", title: str = "Add a selector") -> str:
    """The code block of a language in one part of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    part = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
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


def test_new_rule_inside_a_task_is_a_file_and_its_name(
    pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_rule.py").write_text(
        block("python", "selection.md", "Add a rule inside a task")
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "run"
    options = ["--selector", "SizeBalanced", "--selector.init_args.within", "my_rule.LeastCentral"]
    assert main(["select", *fit_arguments(pool_folder, out, *options)[1:]]) == 0
    rows = pq.read_table(out / "selection" / "selection.parquet").to_pylist()
    chosen = [row for row in rows if row["selected"]]
    assert len(chosen) == round(0.25 * len(rows))
    for task in {row["task"] for row in rows}:  # each is one cluster
        taken = [row["score"] for row in chosen if row["task"] == task]
        left = [row["score"] for row in rows if row["task"] == task and not row["selected"]]
        assert min(taken) >= max(left) - 1e-12
    assert {row["reason"] for row in chosen} == {"unlike its cluster"}


def test_documented_selector_with_weights_writes_them(
    pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_weights.py").write_text(block("python", title="Training weights"))
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "run"
    arguments = fit_arguments(pool_folder, out, "--selector", "my_weights.HeavyTails")
    assert main(["select", *arguments[1:]]) == 0
    rows = pq.read_table(out / "selection" / "selection.parquet").to_pylist()
    chosen = sorted((row for row in rows if row["selected"]), key=lambda row: row["score"])
    weights = [row["weight"] for row in chosen]
    assert (weights[0], weights[-1]) == (0.5, 2.0) and weights == sorted(weights)
    assert {row["weight"] for row in rows if not row["selected"]} == {1.0}


@pytest.mark.parametrize("name", ["SizeBalanced", "ZCore"])
def test_shipped_selector_runs_by_name(name: str, pool_folder: Path, tmp_path: Path) -> None:
    arguments = fit_arguments(pool_folder, tmp_path / "run", "--selector", name)
    assert main(["select", *arguments[1:]]) == 0
    rows = pq.read_table(tmp_path / "run" / "selection" / "selection.parquet").to_pylist()
    assert sum(row["selected"] for row in rows) == round(0.25 * len(rows))
    assert not (tmp_path / "run" / "models" / "reference").exists()
