"""The report's tables and pictures in TensorBoard and Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image

from presel_lightning.eval.report.gallery import find_root
from presel_lightning.eval.report.pictures import contact_sheets, map_pictures
from presel_lightning.run.files import read_json

Json = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]

ARM_COLUMNS = ("arm", "samples", "instructions", "relative", "seconds", "gpu_hours")
TASK_COLUMNS = ("task", "size", "reference", "irs_mean", "irs_sem", "weight", "budget", "selected")


def log_report(loggers: Iterable[Logger], out: Path, image_root: Path) -> None:
    """Log scores, tables, maps and contact sheets of a run's report.

    Args:
        loggers: loggers of the configuration; all but TensorBoard and W&B are skipped.
        out: the run folder, with its report.
        image_root: folder of the pool's images.
    """
    supported = [lg for lg in loggers if isinstance(lg, TensorBoardLogger | WandbLogger)]
    if not supported:
        return
    report = read_json(out / "report" / "report.json")
    root = find_root(out, image_root) or image_root
    pictures = {
        **{f"report/map/{task}": picture for task, picture in map_pictures(report)},
        **{f"report/images/{task}": sheet for task, sheet in contact_sheets(report, root)},
    }
    for logger in supported:
        logger.log_metrics(scalars(report))
        log = _to_tensorboard if isinstance(logger, TensorBoardLogger) else _to_wandb
        log(logger, tables(report), pictures)
        logger.save()


def scalars(report: Json) -> dict[str, float]:
    """Return every arm's scores and relative performance, by name."""
    found = {
        f"report/{row['arm']}/{name}": score
        for row in report["arms"]
        for name, score in {**row["scores"], "relative": row["relative"]}.items()
    }
    return {name: float(score) for name, score in found.items() if score is not None}


def tables(report: Json) -> dict[str, Rows]:
    """Return the tables of arms and tasks, one dictionary per row."""
    arms = [{k: row[k] for k in ARM_COLUMNS} | row["scores"] for row in report["arms"]]
    tasks = [{k: row.get(k) for k in TASK_COLUMNS} for row in report["tasks"]]
    return {name: rows for name, rows in (("arms", arms), ("tasks", tasks)) if rows}


def markdown(rows: Rows) -> str:
    """Format a table in Markdown."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        columns,
        ["---"] * len(columns),
        *([_cell(row.get(c)) for c in columns] for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _to_tensorboard(
    logger: Any,  # noqa: ANN401 - of an optional package
    tables: dict[str, Rows],
    pictures: dict[str, Image.Image],
) -> None:
    writer = logger.experiment
    for name, rows in tables.items():
        writer.add_text(f"report/{name}", markdown(rows))
    for name, picture in pictures.items():
        writer.add_image(name, np.asarray(picture), dataformats="HWC")
    writer.flush()


def _to_wandb(
    logger: Any,  # noqa: ANN401 - of an optional package
    tables: dict[str, Rows],
    pictures: dict[str, Image.Image],
) -> None:
    for name, rows in tables.items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        data: Sequence[Any] = [[row.get(c) for c in columns] for row in rows]
        logger.log_table(f"report/{name}", columns=columns, data=data)
    for name, picture in pictures.items():
        logger.log_image(name, [picture])
