"""What differs in the set-ups of two runs: pool and models, configuration, versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from presel_lightning.eval.report.run_folder import counts, read_review, versions
from presel_lightning.run.files import read_json

Json = dict[str, Any]


def setup_differences(one: Path, other: Path) -> list[Json]:
    """Compare the set-ups of two runs.

    Returns:
        A row for each setting that differs: `part`, `key`, and its value in `one` and in `other`,
        as text; None where a run does not have it, which counts as null.
    """
    mine, theirs = read_setup(one), read_setup(other)
    return [
        {"part": part, "key": key, "one": mine[part].get(key), "other": theirs[part].get(key)}
        for part in mine
        for key in {**mine[part], **theirs[part]}
        if mine[part].get(key, "null") != theirs[part].get(key, "null")
    ]


def setup_lines(rows: list[Json], most: int = 12) -> list[str]:
    """Return the differences as lines for a terminal, the first of them where there are many."""
    if not rows:
        return ["set-ups: the same"]
    shown = [
        f"  {row['key']}: "
        + " | ".join("not there" if row[run] is None else row[run] for run in ("one", "other"))
        for row in rows
    ]
    rest = [f"  and {len(rows) - most} more, on the page"] if len(rows) > most else []
    return ["set-ups differ in:", *shown[:most], *rest]


def read_setup(run: Path) -> dict[str, dict[str, str]]:
    """Read the settings of a run, by part; those of files that are missing are missing."""
    ledger, config = run / "run.json", run / "config.yaml"
    known: Json = read_json(ledger) if ledger.is_file() else {}
    found = counts(known, [])
    review = reviewed(known.get("stages", {}).get("selection", {}))
    given = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return {
        "run": flat({**known.get("about", {}), "images in the pool": found["pool"], "left out": found["problems"], **review}),
        "configuration": {k: v for k, v in flat(given or {}).items() if k != "out"},
        "versions": versions(known),
    }  # fmt: skip


def reviewed(selection: Json) -> dict[str, str]:
    """Return how many images a person vetoed and pinned before a selection; nothing without a review.

    A digest of the decisions sets apart two reviews of equal counts.
    """
    if (found := read_review(selection)) is None:
        return {}
    digest = f" (decisions {d[:8]})" if (d := selection.get("decisions")) else ""
    text = f"{found['vetoed']} vetoed, {found['pinned']} pinned{digest}"
    return {"vetoed and pinned by a person": text}


def flat(value: object, key: str = "") -> dict[str, str]:
    """Flatten nested settings: dotted keys, and values as text; lists of plain values stay one."""
    if isinstance(value, list) and not any(isinstance(each, dict | list) for each in value):
        return {key: ", ".join(map(_text, value)) or "none"}
    nested = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(nested, dict):
        return {key: _text(value)}
    rows = [flat(each, f"{key}.{name}" if key else str(name)) for name, each in nested.items()]
    return {name: text for row in rows for name, text in row.items()}


def _text(value: object) -> str:
    """Format a value as YAML does, in one line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return " ".join(str(value).split())
