"""Training weights in every format that has a place for them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from presel_lightning.cli.main import main
from presel_lightning.export.selection import TARGETS
from tests.conftest import fit_arguments
from tests.export.selection.test_webdataset import read

SELECTOR = "tests.selectors.weighted.Weighted"


@pytest.fixture(scope="module")
def weighted(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `select` of 20 samples that weigh 3, 1 and 0.5 in turn."""
    out = tmp_path_factory.mktemp("weighted") / "run"
    given = ["--selector", SELECTOR, "--data.budget", "20"]
    assert main(["select", *fit_arguments(pool_folder, out, *given)[1:]]) == 0
    return out


def facts(run: Path) -> dict[str, float]:
    """Weights by uid, in the order of the uids."""
    table = pq.read_table(run / "selection" / "selection.parquet").filter(pc.field("selected"))
    found: dict[str, float] = dict(
        zip(table["uid"].to_pylist(), table["weight"].to_pylist(), strict=True)
    )
    return dict(sorted(found.items()))


def rows(run: Path, to: str, folder: Path) -> list[dict[str, Any]]:
    """An export, read as its tool reads it."""
    out = folder / to
    assert main(["export", "--run", str(run), "--to", to, "--path", str(out)]) == 0
    if to == "csv":
        with (out / "selection.csv").open(newline="") as handle:
            return list(csv.DictReader(handle))
    if to == "webdataset":
        return [sample["json"] for sample in read(sorted(out.glob("*.tar")))]
    if to == "llava-json":
        found: list[dict[str, Any]] = json.loads((out / "selection.json").read_text())
        return found
    cache = str(folder / "cache")
    if to in ("trl", "hf-dataset"):
        return list(load_dataset(str(out), split="train", cache_dir=cache))
    file = out / {"llama-factory": "selection.json", "ms-swift": "train.jsonl"}[to]
    return list(load_dataset("json", data_files=str(file), split="train", cache_dir=cache))


@pytest.mark.parametrize("to", ["csv", "webdataset", "trl", "hf-dataset", "llama-factory"])
def test_export_with_a_column_carries_the_weight(to: str, weighted: Path, tmp_path: Path) -> None:
    known = facts(weighted)
    assert set(known.values()) == {3.0, 1.0, 0.5}
    found = {row["uid"]: float(row["weight"]) for row in rows(weighted, to, tmp_path)}
    assert found == known


def test_llava_json_carries_the_weight_under_our_own_key(weighted: Path, tmp_path: Path) -> None:
    found = {
        row["uid"]: row["presel"].get("weight") for row in rows(weighted, "llava-json", tmp_path)
    }
    assert found == {
        uid: None if weight == 1 else weight for uid, weight in facts(weighted).items()
    }


def test_ms_swift_weighs_every_answer(weighted: Path, tmp_path: Path) -> None:
    known = facts(weighted)
    for row in rows(weighted, "ms-swift", tmp_path):
        for message in row["messages"]:
            weight = known[row["uid"]] if message["role"] == "assistant" else None
            assert message.get("loss_scale") == weight


def test_npy_has_weights_beside_the_uids(weighted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["export", "--run", str(weighted), "--to", "npy", "--path", str(out)]) == 0
    uids = [f"{high:016x}{low:016x}" for high, low in np.load(out / "uids.npy").tolist()]
    weights = np.load(out / "weights.npy")
    assert dict(zip(uids, weights.tolist(), strict=True)) == facts(weighted)


def test_unweighted_exports_for_trainers_name_no_weight(finished: Path, tmp_path: Path) -> None:
    for to in ("llava-json", "llama-factory", "ms-swift", "npy"):
        out = tmp_path / to
        assert main(["export", "--run", str(finished), "--to", to, "--path", str(out)]) == 0
        assert not (out / "weights.npy").exists()
        for path in out.glob("*.json*"):
            assert "weight" not in path.read_text() and "loss_scale" not in path.read_text()


@pytest.mark.parametrize("to", ["csv", "webdataset"])
def test_export_of_a_run_without_weight_column_weighs_1(
    to: str, finished: Path, tmp_path: Path
) -> None:
    """Its `selection.parquet` has no such column."""
    run = shutil.copytree(finished, tmp_path / "run")
    path = run / "selection" / "selection.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["weight"]), path)
    assert {float(row["weight"]) for row in rows(run, to, tmp_path)} == {1.0}


def test_weights_of_every_format_are_tested() -> None:
    tried = {
        "csv",
        "webdataset",
        "trl",
        "hf-dataset",
        "llama-factory",
        "llava-json",
        "ms-swift",
        "npy",
    }
    pictures_alone = {"images", "contact-sheets"}
    assert tried | pictures_alone == set(TARGETS)
