"""What a model answered to each question of its benchmarks: `predictions/ARM.parquet`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from presel_lightning.eval.benchmarks.base import Answer, BenchmarkTask, Score
from presel_lightning.run.files import replacing

SCHEMA = pa.schema(
    {
        "benchmark": pa.string(),
        "item": pa.string(),
        "task": pa.string(),
        "question": pa.string(),
        "answer": pa.string(),
        "prediction": pa.string(),
        "credit": pa.float32(),
    }
)
"""One row a question; `answer` is the expected one, `credit` that of the prediction, 0 to 1."""
KEY = b"key"
"""Entry of the file's metadata: fingerprint of model and benchmarks, as in the file of scores."""
MOST_CHARACTERS = 4000
"""Of a text in the file; a longer one is cut."""


def predictions_path(out: Path, arm: str) -> Path:
    """Return the file of an arm's predictions in a run folder."""
    return out / "predictions" / f"{arm}.parquet"


def predictions_table(
    benchmark: BenchmarkTask, predictions: Sequence[str], score: Score
) -> pa.Table:
    """Build the rows of one benchmark, in the order of its items.

    Args:
        benchmark: the benchmark.
        predictions: one answer per item.
        score: their score; a benchmark that gives no credit to single answers leaves it null.
    """
    items = benchmark.items()
    credit = score.answer_credits(len(items))
    columns = {
        "benchmark": [benchmark.name] * len(items),
        "item": [item.uid for item in items],
        "task": [item.task for item in items],
        "question": [_cut(item.question) for item in items],
        "answer": [_cut(item.answer) for item in items],
        "prediction": [_cut(text) for text in predictions],
        "credit": [None] * len(items) if credit is None else credit,
    }
    return pa.table(columns, schema=SCHEMA)


def answers_table(benchmark: str, answers: Sequence[Answer]) -> pa.Table:
    """Build the rows of a benchmark that queries the model itself.

    Args:
        benchmark: name of the benchmark.
        answers: what was answered.
    """
    columns = {
        "benchmark": [benchmark] * len(answers),
        "item": [answer.item for answer in answers],
        "task": [answer.task for answer in answers],
        "question": [_cut(answer.question) for answer in answers],
        "answer": [_cut(answer.expected) for answer in answers],
        "prediction": [_cut(answer.prediction) for answer in answers],
        "credit": [answer.credit for answer in answers],
    }
    return pa.table(columns, schema=SCHEMA)


def write_predictions(path: Path, key: str, tables: Mapping[str, pa.Table]) -> None:
    """Write the rows of all benchmarks of a model, by name."""
    table = pa.concat_tables([SCHEMA.empty_table(), *tables.values()])
    with replacing(path) as part:
        pq.write_table(table.replace_schema_metadata({KEY: key}), part, compression="zstd")


def read_predictions(path: Path, key: str) -> dict[str, pa.Table]:
    """Return the rows of each benchmark; empty where there is no file, or one of another key."""
    if not path.is_file():
        return {}
    found = pq.read_table(path)
    if (found.schema.metadata or {}).get(KEY) != key.encode():
        return {}
    table = found.replace_schema_metadata(None)
    names = pc.unique(table["benchmark"]).to_pylist()
    return {name: table.filter(pc.equal(table["benchmark"], name)) for name in names}


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
