"""`probe` and `select --data.features`: tables of features in, a table or rows out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

import presel_lightning
from presel_lightning.cli.main import main
from tests.optional import require


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """120 rows of three classes, one of them rare."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], [70, 40, 10])
    features = rng.normal(size=(120, 8)).astype(np.float32) + 2 * np.eye(8, dtype=np.float32)[label]
    np.save(tmp_path / "features.npy", features)
    (tmp_path / "labels.txt").write_text("\n".join(f"class {number}" for number in label))
    np.savez(tmp_path / "both.npz", features=features, label=label)
    return tmp_path


def test_probe_prints_and_writes_the_protocol_written_out(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["probe", "--features", str(table / "both.npz"), "--out", str(table / "out")]
    words += ["--methods", "Medoids", "centrality", "--budgets", "0.1", "12", "--splits", "3"]
    assert main([*words, "--test", "40"]) == 0
    assert "within: centrality" in capsys.readouterr().out
    found = json.loads((table / "out" / "probe.json").read_text())
    assert [(r["method"], r["selected"]) for r in found["results"]] == [
        (method, size) for size in (8, 12) for method in ("Random", "Medoids", "within: centrality")
    ]
    with np.load(table / "both.npz") as file:
        features, label = file["features"], file["label"]
    differences = []
    for split in range(3):
        order = np.random.default_rng(split).permutation(120)
        test, pool = order[:40], order[40:]
        mean, deviation = features[pool].mean(0), features[pool].std(0) + 1e-6
        scores = []
        for rows in (
            np.random.default_rng(split + 1000).permutation(80)[:8],
            presel_lightning.select(features[pool], budget=8, method="Medoids", seed=split),
        ):
            model = LogisticRegression(C=0.01, max_iter=300)
            model.fit((features[pool[rows]] - mean) / deviation, label[pool[rows]])
            scores.append(100 * model.score((features[test] - mean) / deviation, label[test]))
        differences.append(scores[1] - scores[0])
    medoids = found["results"][1]
    assert medoids["difference"] == pytest.approx(np.mean(differences))
    half_width = 4.302653 * np.std(differences, ddof=1) / np.sqrt(3)  # t of 2 degrees of freedom
    assert medoids["half_width"] == pytest.approx(half_width, rel=1e-6)


def test_probe_of_labeled_images_makes_their_features_first(tmp_path: Path) -> None:
    require("efficientnet_lite_pytorch")
    rng = np.random.default_rng(0)
    for number in range(12):
        place = tmp_path / "images" / ("dark" if number % 2 else "light") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (16, 16, 3)) + 127 * (1 - number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(place)
    words = ["--data.annotations", str(tmp_path / "images"), "--out", str(tmp_path / "out")]
    options = ["--methods", "Medoids", "--budgets", "4", "--splits", "1", "--test", "4"]
    assert main(["probe", *words, *options]) == 0
    found = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert (found["rows"], found["classes"]) == (12, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--features FILE, or --data.annotations"),
        (["--features", "{}/both.npz", "--checkpoint", "x"], "--checkpoint requires --data.ann"),
        (["--data.annotations", "{}/images", "--checkpoint", "{}/none"], "checkpoint"),
        (["--features", "{}/none.npy"], "give .npy, .npz or a run folder"),
        (["--features", "{}/labels.txt"], "no features there (not a file of numbers)"),
        (["--features", "{}/features.npy"], "give --labels FILE"),
        (["--features", "{}/both.npz", "--methods", "PreSel"], "'PreSel' is unknown; choose from"),
        (["--features", "{}/both.npz", "--budgets", "99"], "budgets is 99"),
        (["--features", "{}/both.npz", "--labels", "{}/none.txt"], "no labels there"),
        (["--features", "{}/both.npz", "--probe_features", "{}/short.npy"], "one of each a row"),
    ],
)
def test_probe_mistakes_end_in_one_line(
    words: list[str], message: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(table / "short.npy", np.zeros((3, 2), dtype=np.float32))
    (table / "images" / "a").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(table / "images" / "a" / "0.png")
    words = [word.format(table) for word in words]
    assert main(["probe", *words, "--splits", "1", "--out", str(table / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_select_from_features_alone_equals_the_python_call(table: Path) -> None:
    np.save(table / "without.npy", np.arange(5))
    words = ["select", "--data.features", str(table / "features.npy"), "--data.budget", "20"]
    words += ["--data.tasks", str(table / "labels.txt"), "--data.excluded"]
    assert main([*words, str(table / "without.npy"), "--out", str(table / "out")]) == 0
    tasks = (table / "labels.txt").read_text().splitlines()
    features = np.load(table / "features.npy")
    expected = presel_lightning.select(features, tasks, budget=20, excluded=np.arange(5))
    folder = table / "out" / "selection"
    assert np.load(folder / "rows.npy").tolist() == expected.tolist()
    with (folder / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == expected.tolist()
    assert [row["task"] for row in rows] == [tasks[row] for row in expected]
    assert main([*words, str(table / "labels.txt"), "--out", str(table / "out")]) == 2


@pytest.mark.parametrize("budget", ["121", "1.5"])
def test_select_from_features_names_the_key_of_a_wrong_budget(
    budget: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["select", "--data.features", str(table / "features.npy"), "--data.budget", budget]
    assert main([*words, "--out", str(table / "out")]) == 2
    assert "data.budget" in capsys.readouterr().err
