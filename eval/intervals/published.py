"""Published scores: a paper's tables, or the full-data arm of another run."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from presel_lightning.errors import UserError
from presel_lightning.eval.intervals.relative import relative_performance

Json = dict[str, Any]

PREFIX = "published:"
FULL = "Full"
"""Method name of full-data tuning in the tables."""


def full_scores(source: str | Path) -> dict[str, float]:
    """Read the scores of full-data tuning from the source of the key `full_scores`.

    Args:
        source: `published:llava665k` (7B), `published:llava665k_13b`, `published:llava665k_llama3`,
            `published:vision_flan`, or the path of a JSON file: another run's `benchmark.json` (its
            arm `full`) or {benchmark: score}.

    Returns:
        {benchmark: score}, in the scale of its source; entries that are null are left out.

    Raises:
        UserError: no such table or file, or a file that holds no score.
    """
    if str(source).startswith(PREFIX):
        rows = _table(str(source).removeprefix(PREFIX))
        return {row["benchmark"]: float(row["score"]) for row in rows if row["method"] == FULL}
    return _from_file(Path(source))


def published_rows(source: str | None, benchmarks: Sequence[str]) -> list[Json]:
    """Read a paper's rows, to show with those of a run.

    Args:
        source: value of the key `full_scores`.
        benchmarks: benchmarks of the run; the scores of others are left out.

    Returns:
        For each method: method, instructions (required share of the pool, in percent), scores,
        relative (over the shared benchmarks, in percent), source. Empty where no published table
        is named or no benchmark is shared.
    """
    if source is None or not source.startswith(PREFIX):
        return []
    rows = _table(source.removeprefix(PREFIX))
    found: dict[str, Json] = {}
    for row in rows:
        if row["benchmark"] in benchmarks:
            entry: Json = {
                "method": row["method"],
                "instructions": int(row["instructions"]),
                "scores": {},
                "source": row["source"],
            }
            scores = found.setdefault(row["method"], entry)["scores"]
            scores[row["benchmark"]] = float(row["score"])
    for entry in found.values():
        entry["relative"] = relative_performance(entry["scores"], found[FULL]["scores"])
    return list(found.values())


def _table(name: str) -> list[dict[str, str]]:
    """Read the rows of a published table: method, instructions, benchmark, score, rel, source."""
    folder = files("presel_lightning.eval").joinpath("published")
    known = sorted(file.name.removesuffix(".csv") for file in folder.iterdir())
    if name not in known:
        names = ", ".join(f"{PREFIX}{each}" for each in known)
        raise UserError(
            f"full_scores: no published scores are called `{name}`; known are {names}, "
            "or give the path of a benchmark.json"
        )
    text = folder.joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _from_file(path: Path) -> dict[str, float]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"full_scores: {path} cannot be read; give a benchmark.json or {PREFIX}llava665k"
        ) from error
    except ValueError as error:
        raise UserError(f"full_scores: {path} is not JSON; give a benchmark.json") from error
    table = content.get("full", content) if isinstance(content, dict) else {}
    scores = (
        {name: float(score) for name, score in table.items() if _is_score(name, score)}
        if isinstance(table, dict)
        else {}
    )
    if not scores:
        raise UserError(
            f"full_scores: {path} has neither an arm `full` nor a flat {{benchmark: score}}; "
            "run with `--baselines full`, or write the scores into it"
        )
    return scores


def _is_score(name: str, score: object) -> bool:
    number = isinstance(score, int | float) and not isinstance(score, bool)
    return name != "relative" and number and math.isfinite(score)  # type: ignore[arg-type]
