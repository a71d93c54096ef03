"""Scores of full-data tuning that somebody has measured already: a paper's row or another run."""

from __future__ import annotations

import csv
import json
import math
from importlib.resources import files
from pathlib import Path

from presel_lightning.errors import UserError

PREFIX = "published:"


def full_scores(source: str | Path) -> dict[str, float]:
    """Score of full-data tuning on each benchmark, as the key `full_scores` names it.

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
        return _published(str(source).removeprefix(PREFIX))
    return _from_file(Path(source))


def _published(pool: str) -> dict[str, float]:
    text = files("presel_lightning.eval").joinpath("published.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    scores = {row["benchmark"]: float(row["score"]) for row in rows if row["pool"] == pool}
    if not scores:
        known = ", ".join(f"{PREFIX}{name}" for name in dict.fromkeys(row["pool"] for row in rows))
        raise UserError(
            f"full_scores: no published scores are called `{pool}`; known are {known}, "
            "or give the path of a benchmark.json"
        )
    return scores


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
