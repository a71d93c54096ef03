from __future__ import annotations

import re
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from presel_lightning.cli.main import main
from presel_lightning.eval.report.loggers import log_report, markdown
from tests.conftest import benchmark_arguments, fit_arguments
from tests.optional import require


def test_tensorboard_logger_receives_tables_and_images(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    require("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="", version="")
    log_report([logger, CSVLogger(tmp_path / "csv")], finished, pool_folder)
    events = EventAccumulator(str(tmp_path), {"images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    assert {f"report/{kind}/{task}" for kind in ("map", "images") for task in
            ("colour", "shape", "count", "caption")} == set(tags["images"])  # fmt: skip
    assert {"report/final/tiny", "report/random/tiny", "report/final/relative"} <= set(
        tags["scalars"]
    )
    text = events.Tensors("report/tasks/text_summary")[0].tensor_proto.string_val[0].decode()
    assert re.search(r"\| colour \| 45 \|", text)
    picture = events.Images("report/images/shape")[0]
    assert (picture.width, picture.height) == (12 * 80, 160)
    assert not (tmp_path / "csv").exists()  # it takes no pictures, and has the curves already


def test_fit_logs_its_report_to_the_configured_logger(pool_folder: Path, tmp_path: Path) -> None:
    require("tensorboard")
    out, logs = tmp_path / "run", tmp_path / "tb"
    name = "lightning.pytorch.loggers.TensorBoardLogger"
    logger = f"{{class_path: {name}, init_args: {{save_dir: {logs}, name: x, version: y}}}}"
    more = ["--trainer.logger", logger, "--baselines", "untrained", "--trainer.max_steps", "1"]
    assert main(fit_arguments(pool_folder, out, *more, *benchmark_arguments(pool_folder))) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logs / "x" / "y"), {"images": 0})
    events.Reload()
    assert "report/map/shape" in events.Tags()["images"]
    assert "report/untrained/tiny" in events.Tags()["scalars"]


def test_wandb_logger_receives_tables_and_images(
    finished: Path, pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = require("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for patience in ("WANDB__SERVICE_WAIT", "WANDB_INIT_TIMEOUT"):  # 30 and 90 s of their own
        monkeypatch.setenv(patience, "300")
    logger = WandbLogger(project="x", save_dir=tmp_path, offline=True)
    log_report([logger], finished, pool_folder)
    logged = dict(logger.experiment.summary)
    wandb.finish()
    assert "report/final/tiny" in logged and "report/tasks" in logged
    assert "report/map/shape" in logged


def test_markdown_table_escapes_cell_separators() -> None:
    rows: list[dict[str, object]] = [{"a": "x|y", "b": 0.123456}, {"a": None, "c": 2}]
    assert markdown(rows).splitlines() == [
        "| a | b | c |", "| --- | --- | --- |", "| x\\|y | 0.1235 |  |", "|  |  | 2 |"
    ]  # fmt: skip
