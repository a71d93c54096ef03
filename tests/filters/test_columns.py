"""Columns of metadata in any type that Parquet has: read where they can be, else named."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from tests.filters.pools import run_filter

CAPTIONS = ["A dog runs on the beach", None, "no", "ein Hund läuft am Strand entlang"] * 2
SCORES = ["85", "85\nA dog.", " 100", "N/A", None, "84", "90;", "10,"]
UIDS = [f"{number:032x}" for number in range(8)]
JUDGED = {"mlm_filter": {"metric": "image_text_matching", "threshold": 85}}


def as_type(texts: list[str | None], kind: pa.DataType) -> pa.Array:
    column = pa.array(texts, pa.string())
    return column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)


def write(folder: Path, **columns: pa.Array) -> Path:
    folder.mkdir()
    own = {
        "uid": pa.array(UIDS),
        "text": pa.array(CAPTIONS),
        "status": pa.array(["success"] * 8),
        "original_width": pa.array([300] * 8),
        "original_height": pa.array([300] * 8),
    }
    pq.write_table(pa.table({**own, **columns}), folder / "0.parquet")
    return folder


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["metadata", "scores"])
def test_texts_are_read_in_every_type_of_text(
    tmp_path: Path, kind: pa.DataType, where: str
) -> None:
    scores = as_type(SCORES, kind)
    columns = {"text": as_type(CAPTIONS, kind), "status": as_type(["success"] * 8, kind)}
    options = []
    if where == "metadata":
        columns["image_text_matching_score"] = scores
    else:
        table = {"uid": pa.array(UIDS), "image_text_matching_score": scores}
        pq.write_table(pa.table(table), tmp_path / "scores.parquet")
        options = ["--scores", f"[{tmp_path / 'scores.parquet'}]"]
    pool = write(tmp_path / "pool", **columns)
    assert run_filter(pool, tmp_path / "o.npy", ["basic_filter"]) == [(0, 0), (0, 4)]
    assert run_filter(pool, tmp_path / "m.npy", [JUDGED], *options) == [
        (0, n) for n in (0, 1, 2, 6)
    ]


def test_a_file_whose_captions_are_all_null_has_none(tmp_path: Path) -> None:
    pool = write(tmp_path / "pool", text=pa.nulls(8))  # as pandas writes such a column
    assert run_filter(pool, tmp_path / "o.npy", ["basic_filter"]) == []


@pytest.mark.parametrize(
    ("columns", "rule", "named"),
    [
        ({"text": pa.array(range(8))}, "basic_filter", "text is int64"),
        ({"text": pa.array([b"\xff"] * 8)}, "basic_filter", "text is binary"),
        ({"status": pa.array([True] * 8)}, "open_qwen2vl_basic", "status is bool"),
        ({"original_width": pa.array([[1]] * 8)}, "open_qwen2vl_basic", "width is list"),
        ({"s": pa.array(["high"] * 8)}, {"clip_score": {"column": "s", "fraction": 0.5}}, "'high'"),
    ],
)
def test_a_column_of_another_type_is_a_fault_of_its_file(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    columns: dict[str, pa.Array],
    rule: Any,
    named: str,
) -> None:
    pool, output = write(tmp_path / "pool", **columns), tmp_path / "o.npy"
    arguments = ["filter", "--metadata", str(pool), "--output", str(output), f"--rules=[{rule}]"]
    assert main(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message and "0.parquet: wrong type" in message and named in message
    assert main([*arguments, "--faults", "skip"]) == 0
    with output.with_suffix(".problems.csv").open(newline="") as lines:
        (problem,) = csv.DictReader(lines)
    assert problem["problem"] == "wrong_type" and named in problem["detail"]


def test_sources_of_a_mixture_that_are_no_texts_are_a_fault_of_their_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = write(tmp_path / "pool", source=pa.array([["a"]] * 8))
    words = ["--metadata", str(pool), "--output", str(tmp_path / "o.npy"), "--rules", "[no_filter]"]
    assert main(["filter", *words, "--mixture", "{shares: {a: 1}, size: 1}"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "0.parquet: wrong type" in message
    assert "source is list<" in message


def test_a_score_may_have_any_name(tmp_path: Path) -> None:
    pool = write(tmp_path / "pool")
    values = pa.array(range(8))
    table = {"uid": pa.array(UIDS), "model/v2 score": values, "uid.npy": values, "status": values}
    pq.write_table(pa.table(table), tmp_path / "scores.parquet")
    for name in ("model/v2 score", "uid.npy"):
        rule = {"clip_score": {"column": name, "threshold": 6}}
        more = ("--scores", f"[{tmp_path / 'scores.parquet'}]")
        kept = run_filter(pool, tmp_path / "o.npy", [rule, "open_qwen2vl_basic"], *more)
        assert kept == [(0, 6), (0, 7)]


@pytest.mark.parametrize(
    ("embeddings", "named"),
    [
        (np.ones((8, 3), np.float16), "l14_img is of 3 dimensions, the centroids are of 4"),
        (np.ones(8, np.float16), "l14_img is halffloat, the centroids are of 4"),
        (np.full((8, 4), "a"), "l14_img is string"),
    ],
)
def test_embeddings_of_another_shape_are_a_fault_of_their_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], embeddings: np.ndarray, named: str
) -> None:
    pool = write(tmp_path / "pool")
    np.savez(pool / "0.npz", l14_img=embeddings)
    np.save(tmp_path / "c.npy", np.eye(4, dtype=np.float32))
    rule = f"[{{image_based: {{centroids: {tmp_path}/c.npy, targets: {tmp_path}/c.npy}}}}]"
    words = ["--metadata", str(pool), "--output", str(tmp_path / "o.npy"), "--rules", rule]
    assert main(["filter", *words]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and named in message
    np.save(tmp_path / "none.npy", np.empty((0, 4), np.float32))
    assert main(["filter", *words[:-1], rule.replace("c.npy", "none.npy")]) == 2
    assert "of shape (0, 4)" in capsys.readouterr().err


def test_draws_ask_for_finite_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = write(tmp_path / "pool", s=pa.array([float("-inf")] * 8))
    words = ["--metadata", str(pool), "--output", str(tmp_path / "o.npy"), "--rules", "[no_filter]"]
    for method in ("soft_cap", "hard_cap"):
        draws = f"{{method: {method}, score: s, size: 4}}"
        assert main(["filter", *words, "--sampling", draws]) == 2
        assert "8 rows have an infinite s" in capsys.readouterr().err
