"""The setting of image-text pairs, through the command line: no language model, retrieval at the end."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import ModelCard

from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.main import main
from presel_lightning.cli.training import recipe_from
from presel_lightning.data import Pool, load_pool
from presel_lightning.data.held_out import held_out
from presel_lightning.eval.benchmarks.predictions import read_predictions
from presel_lightning.eval.benchmarks.retrieval import NAMES
from presel_lightning.loading.datasets import text_of_pair
from presel_lightning.loading.pairs import PairDataModule
from presel_lightning.recipe import artifacts
from presel_lightning.recipe.recipe import Recipe
from presel_lightning.run.lock import leave
from presel_lightning.signals import ClipSimilarity, Signals
from presel_lightning.tasks import TwoTower
from tests.conftest import N_POOL

SMALL = {
    "threads": "1",
    "trainer.accelerator": "cpu",
    "stages.similarity.model.checkpoint": "quickstart-matcher",
    "two_tower.epochs": "2",
    "two_tower.warmup_epochs": "1",
    "two_tower.hidden": "16",
    "two_tower.dimension": "8",
    "gradient_width": "32",
    "data.num_workers": "0",
    "data.budget": "0.5",
}
WEIGHED = [
    word
    for key, value in {"clusters": "10", "z": "0", "beneficial": "0"}.items()
    for word in (f"--selector.init_args.{key}", value)
]
"""Small clusters, of which those of positive utility weigh more."""
TASK = "presel_lightning.eval.benchmarks.annotation_file.AnnotationFile"
HELD, REFERENCE = 13, 12
"""Of 130 samples; of the other 117."""
BUDGET = round(0.5 * (N_POOL - HELD))


def arguments(command: str, annotations: Path, out: Path, *more: str) -> list[str]:
    """The shipped config with the shipped encoder, on a small pool."""
    options = [word for key, value in SMALL.items() for word in (f"--{key}", value)]
    given = ["--data.annotations", str(annotations), "--out", str(out)]
    return [command, "--config", "influence_space.yaml", *options, *given, *more]


def recipe_of(annotations: Path, out: Path, *more: str) -> Recipe:
    words, name = find_configs(arguments("fit", annotations, out, *more)[1:])
    recipe = recipe_from("fit", words, name)[0]
    leave()
    return recipe


@pytest.fixture(scope="module")
def fitted(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a whole `fit`, with cluster weights and all arms."""
    out = tmp_path_factory.mktemp("pairs") / "run"
    assert main(arguments("fit", pool_folder / "train.json", out, *WEIGHED)) == 0
    return out


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def parts(out: Path, root: Path) -> tuple[Pool, Pool]:
    """What was held out, and the rest."""
    pool = load_pool(out, root)
    return pool.parted(held_out(pool, 0.1))


def selected(out: Path) -> list[str]:
    rows = pq.read_table(out / "selection" / "selection.parquet").to_pylist()
    return [row["uid"] for row in rows if row["selected"]]


# ---------------------------------------------------------------- a run


def test_no_language_model_is_tuned_and_every_arm_is_scored(fitted: Path) -> None:
    assert sorted(path.name for path in (fitted / "models").iterdir()) == ["final", "full", "random", "warm_up"]  # fmt: skip
    table = read(fitted / "benchmark.json")
    assert list(table) == ["final", "full", "random", "untrained"]
    for scores in table.values():
        assert set(scores) == {*NAMES, "relative"}
    report = read(fitted / "report" / "report.json")
    assert report["about"]["model"] == "two-tower probe on quickstart-matcher"
    assert {row["arm"]: set(row["intervals"]) for row in report["arms"]} == {arm: set(NAMES) for arm in table}  # fmt: skip


def test_predictions_of_retrieval_are_kept_for_every_arm(fitted: Path, pool_folder: Path) -> None:
    held, _ = parts(fitted, pool_folder)
    images = set(held.image.tolist())
    texts = {text_of_pair(held, row) for row in range(len(held))}
    for arm, table in read(fitted / "benchmark.json").items():
        key = read(fitted / "work" / "scores" / f"{arm}.json")["key"]
        kept = read_predictions(fitted / "predictions" / f"{arm}.parquet", key)
        assert list(kept) == list(NAMES)
        for name in NAMES:
            rows = kept[name].to_pylist()
            asked, found = (images, texts) if name.startswith("image") else (texts, images)
            assert {row["question"] for row in rows} <= asked
            assert {row["answer"] for row in rows} | {row["prediction"] for row in rows} <= found
            mean = 100 * np.mean([row["credit"] for row in rows])
            assert mean == pytest.approx(table[name], abs=1e-4)
        for row in kept["text_to_image_r1"].to_pylist():
            assert row["credit"] <= float(row["prediction"] == row["answer"])  # ties count against
    shown = read(fitted / "report" / "report.json")["disagreements"]
    assert {row["against"] for rows in shown.values() for row in rows} == {"full", "random", "untrained"}  # fmt: skip


def test_card_of_a_probe_loads_it(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fitted / "models" / "final"
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "presel-lightning" and card.data.pipeline_tag is None
    assert f"- samples trained on: {BUDGET}" in card.text.splitlines()
    code = card.text.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    monkeypatch.chdir(folder)
    exec(code, names)  # noqa: S102 - the card's own code
    torch.testing.assert_close(
        names["model"].state_dict(), TwoTower.load(folder.absolute()).state_dict()
    )


def test_what_is_held_out_is_neither_selected_nor_trained_on(
    fitted: Path, pool_folder: Path
) -> None:
    held, rest = parts(fitted, pool_folder)
    assert (len(held), len(rest)) == (HELD, N_POOL - HELD)
    stages = read(fitted / "run.json")["stages"]
    samples = {
        name: stages[name]["samples"] for name in ("split", "warm_up", "full", "final", "test")
    }
    assert samples == {"split": REFERENCE, "warm_up": N_POOL - HELD - REFERENCE,
                       "full": N_POOL - HELD, "final": BUDGET, "test": HELD}  # fmt: skip
    assert len(selected(fitted)) == BUDGET and not set(selected(fitted)) & set(held.uid)
    assert set(np.load(fitted / "signals" / "pair_gradients" / "uid.npy").astype(str)) == set(
        rest.uid
    )
    assert read(fitted / "run.json")["counts"]["held_out"] == HELD


@torch.no_grad()
def test_scores_are_those_of_the_saved_heads_on_the_held_out_pairs(
    fitted: Path, pool_folder: Path
) -> None:
    held, _ = parts(fitted, pool_folder)
    signal = Signals(fitted / "test" / "signals").of(ClipSimilarity)
    vectors = {
        s: torch.from_numpy(signal.read(held, np.arange(HELD), s)) for s in ("image", "text")
    }
    for arm in ("final", "random", "untrained"):
        shown = vectors
        if arm != "untrained":
            probe = TwoTower.load(fitted / "models" / arm)
            shown = {side: probe(side, given) for side, given in vectors.items()}
        similar = (shown["image"] @ shown["text"].T).tolist()
        better = [
            sum(similar[row][n] >= similar[row][row] for n in range(HELD)) for row in range(HELD)
        ]
        kept = read(fitted / "work" / "scores" / f"{arm}.json")["benchmarks"]
        for k in (1, 5, 10):
            recall = 100 * sum(number <= k for number in better) / HELD
            assert kept[f"image_to_text_r{k}"]["score"] == pytest.approx(recall, abs=1e-3)
    assert kept["text_to_image_r1"]["gap"] > 0  # its tasks are the groups of these records


def test_weights_of_the_selection_reach_training(
    fitted: Path, pool_folder: Path, tmp_path: Path
) -> None:
    """In the loss, or as chances of a draw."""
    weights = artifacts.read_weights(fitted)
    assert weights and max(weights.values()) > 1.5
    out = shutil.copytree(fitted, tmp_path / "run", symlinks=True)
    for kind in ("loss", "sample"):
        recipe = recipe_of(pool_folder / "train.json", out, "--data.weights", kind)
        recipe.pool()
        uids = np.array(selected(fitted), dtype=object)
        options: Any = {"stage": "final", "is_arm": True, "weights": weights}
        data = recipe.arms.serve("final", uids, **options).data
        assert isinstance(data, PairDataModule)
        given = np.array([weights.get(uid, 1.0) for uid in sorted(uids)])
        seen = data.pairs.weights if kind == "loss" else data.chances
        assert seen is not None
        np.testing.assert_allclose(seen, given)
        assert recipe.arms.whole(uids, **options) != recipe.arms.whole(uids, **{**options, "weights": None})  # fmt: skip


def test_second_run_does_nothing_and_other_epochs_train_again(
    fitted: Path, pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(fitted, tmp_path / "run", symlinks=True)
    assert main(arguments("fit", pool_folder / "train.json", out, *WEIGHED)) == 0
    assert "✓" not in capsys.readouterr().out
    more = [*WEIGHED, "--two_tower.epochs", "1"]
    assert main(arguments("fit", pool_folder / "train.json", out, *more)) == 0
    said = capsys.readouterr().out
    assert "✓ final" in said and "· pair_gradients" in said and "· selection" in said


def test_epochs_are_those_of_the_probe_unless_steps_are_given(
    pool_folder: Path, tmp_path: Path
) -> None:
    """As `compare` gives them with `equal: steps`."""
    file = pool_folder / "train.json"
    recipe = recipe_of(file, tmp_path / "one", "--trainer.max_epochs", "7")
    for stage, epochs in (("final", 2), ("reference", 1)):
        assert recipe.arms.trainer(stage, tmp_path, []).max_epochs == epochs
    assert recipe.arms.steps(65) == 2 * 3  # of 32 pairs each
    steps = ["--stages", "{final: {trainer: {max_steps: 3, max_epochs: -1}}}"]
    trainer = recipe_of(file, tmp_path / "two", *steps).arms.trainer("final", tmp_path, [])
    assert trainer.max_steps == 3 and trainer.max_epochs == -1


# ---------------------------------------------------------------- captions with a test file


@pytest.fixture(scope="module")
def captions(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two captions a picture, without task or group; and a file of test pairs."""
    folder = tmp_path_factory.mktemp("captions")
    shutil.copytree(pool_folder / "images", folder / "images")
    records = read(pool_folder / "train.json")
    pairs = [
        {"id": f"{row}-{n}", "image": record["image"],
         "conversations": [{"from": "human", "value": "<image>"},
                           {"from": "gpt", "value": f"{text} {record['conversations'][1]['value']}"}]}
        for row, record in enumerate(records[:60]) for n, text in enumerate(("a", "there is"))
    ]  # fmt: skip
    (folder / "captions.json").write_text(json.dumps(pairs[:80]))
    (folder / "test.json").write_text(json.dumps(pairs[80:]))
    return folder


def test_test_file_is_scored_on_and_nothing_is_made_up_of_groups(
    captions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    more = ["--two_tower.test", str(captions / "test.json"), "--selector", "Random"]
    assert (
        main(arguments("fit", captions / "captions.json", out, *more, "--baselines", "untrained"))
        == 0
    )
    stages = read(out / "run.json")["stages"]
    assert (stages["test"]["samples"], stages["test"]["pictures"]) == (40, 20)
    assert stages["final"]["samples"] == 40 and "held_out" not in read(out / "run.json")["counts"]
    kept = read(out / "work" / "scores" / "final.json")["benchmarks"]
    assert kept["image_to_text_r1"]["n"] == 20 and kept["text_to_image_r1"]["n"] == 40
    assert all(found["tasks"] == {} and "gap" not in found for found in kept.values())
    assert "gap: best minus worst" not in (out / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--two_tower.test", "nowhere.json"], "two_tower.test nowhere.json: no such file"),
        (["--two_tower.held_out", "0.001"], "two_tower.held_out is 0.001: 0 of 80 samples"),
        (["--two_tower.batch_size", "1"], "two_tower.batch_size: '1' is invalid"),
        (
            ["--benchmarks", f"[{{class_path: {TASK}, init_args: {{path: quickstart}}}}]"],
            "benchmarks: quickstart are answered by a language model",
        ),
        (["--selector.init_args.loss", "other"], "loss: 'other' is invalid"),
    ],
    ids=lambda value: value[0][2:] if isinstance(value, list) else "",
)
def test_what_does_not_go_is_named(
    more: list[str],
    message: str,
    captions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments("fit", captions / "captions.json", tmp_path / "run", *more)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "name", "message"),
    [
        ("validation", "nowhere.json", "nowhere.json: no such file or folder"),
        ("validation", "unwritten.json", "unwritten.json has no sample with an instruction"),
        ("two_tower.test", "unwritten.json", "unwritten.json has no sample with an instruction"),
    ],
)
def test_file_that_has_nothing_is_named_before_anything_is_made(
    key: str,
    name: str,
    message: str,
    captions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = [{"id": "x", "image": read(captions / "test.json")[0]["image"], "task": "a"}]
    (tmp_path / "unwritten.json").write_text(json.dumps(records))
    given = [f"--{key}", str(tmp_path / name)]
    file, out = captions / "captions.json", tmp_path / "run"
    assert main(arguments("fit", file, out, *given)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{key} {tmp_path}" in said and message in said
    assert not (out / "pool.parquet").exists()
    assert main(arguments("check", file, out, *given)) == 2


def test_validate_and_evaluate_say_that_there_is_no_language_model(
    captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = captions / "captions.json", tmp_path / "run"
    assert main(arguments("validate", *given)) == 2
    assert "validate trains the model of `model`" in capsys.readouterr().err
    assert main(arguments("evaluate", *given, "--checkpoint", str(captions))) == 2
    assert "scored by `fit` and `compare`" in capsys.readouterr().err


# ---------------------------------------------------------------- the published file tree


def test_published_file_tree_holds_what_the_run_has(
    fitted: Path, pool_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tree"
    assert (
        main(["export", "--run", str(fitted), "--to", "influence-space", "--path", str(out)]) == 0
    )
    names = "indices uids image_embeddings text_embeddings concatenated_embeddings cluster_assignments clip_scores"
    stage1 = {name: np.load(out / "stage1" / f"{name}.npy") for name in names.split()}
    pool = parts(fitted, pool_folder)[1]
    assert len(stage1["uids"]) == len(pool) and stage1["indices"].dtype == np.int64
    records = read(pool_folder / "train.json")
    signals, found = Signals(fitted / "signals"), pool.rows(stage1["uids"])
    for uid, place in zip(stage1["uids"], stage1["indices"], strict=True):
        assert records[place]["image"] == pool.image[pool.rows([uid])[0]]
    np.testing.assert_array_equal(
        stage1["image_embeddings"], signals.clip_similarity(pool, found, "image")
    )
    assert stage1["concatenated_embeddings"].shape[1] == 2 * stage1["text_embeddings"].shape[1]
    clusters = read(out / "stage1/clusters.json")
    for name, places in clusters.items():
        assert set(stage1["cluster_assignments"][places]) == {int(name)}
    scores = read(out / "stage2/influence_scores.json")
    eigenvalues = np.load(out / "stage2/eigenvalues.npy")
    assert scores.keys() == clusters.keys() and (np.diff(eigenvalues) <= 0).all()
    kinds = read(out / "stage3/cluster_categorization.json")
    assert sorted(str(k) for own in kinds.values() for k in own) == sorted(clusters)
    assert all(scores[str(k)] > 0 for k in kinds["beneficial"])
    curated = np.load(out / "stage3/curated_uids.npy")
    weights = dict(zip(curated, np.load(out / "stage3/sample_weights.npy"), strict=True))
    known = artifacts.read_weights(fitted)
    assert set(curated) == set(artifacts.read_selected(fitted))
    assert known and all(weights[uid] == known.get(uid, 1.0) for uid in curated)
    metrics = read(out / "evaluation/method_metrics.json")
    table = read(fitted / "benchmark.json")
    assert metrics.keys() == {"influence_space", "random", "full_data", "untrained"}
    assert metrics["influence_space"]["i2t_recall@5"] == table["final"]["image_to_text_r5"]
    assert metrics["random"]["avg_recall@1"] == pytest.approx(
        (table["random"]["image_to_text_r1"] + table["random"]["text_to_image_r1"]) / 2
    )


def test_published_file_tree_needs_a_run_of_the_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["export", "--run", str(tmp_path), "--to", "influence-space", "--path", "x"]
    assert main(given) == 2
    assert "no selection of InfluenceSpace there" in capsys.readouterr().err


# ---------------------------------------------------------------- check and compare


def test_check_counts_pairs_and_asks_for_no_language_model(
    captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = captions / "captions.json", tmp_path / "run"
    encoder = ["--stages.features.model.checkpoint", "quickstart-encoder"]
    assert main(arguments("check", file, out, *encoder)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "72 samples, 1 tasks: reference 7, budget 36" in said
    assert "about 8 samples, by whole pictures" in said and "pair_gradients" in said
    assert main(arguments("check", file, out, *encoder, "--two_tower.test", str(captions / "test.json"))) == 0  # fmt: skip
    assert "two_tower.test 40 pairs" in " ".join(capsys.readouterr().out.split())
    assert not out.exists()


def test_comparison_ends_with_recalls_and_gaps_of_all_methods(
    pool_folder: Path, tmp_path: Path
) -> None:
    """A plain name reads the contrastive loss; vectors, probe and test pairs are made once."""
    out = tmp_path / "run"
    grid = ["--selectors", "InfluenceSpace", "DataInf", "KMeansPlusPlus", "Random", "--seeds", "3"]
    words = arguments("compare", pool_folder / "train.json", out, *grid, "--workers", "1")
    assert main(words) == 0
    with (out / "comparison.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    methods = ["InfluenceSpace", "DataInf", "KMeansPlusPlus", "Random", "full", "untrained"]
    assert {(r["selector"], r["benchmark"]) for r in rows} == {
        (m, n) for m in methods for n in NAMES
    }
    trained = {row["selector"]: row["train_samples"] for row in rows}
    assert trained == {**dict.fromkeys(methods, str(BUDGET)), "full": "117", "untrained": "0"}
    for name in ("InfluenceSpace-0.5-3", "DataInf-0.5-3"):
        cell = out / "cells" / name
        assert (cell / "models" / "warm_up").is_symlink() and (cell / "test").is_symlink()
        stages = read(cell / "run.json")["stages"]
        assert "gradients" not in stages and stages["pair_gradients"]["status"] == "done"
        for place in ("signals/pair_gradients", "models/warm_up"):
            assert (cell / place).samefile(out / "references" / "3" / place)
    report = read(out / "report" / "report.json")
    assert all(set(row["gaps"]) == set(NAMES) for row in report["parts"][0]["rows"])
    assert "Gap between groups" in (out / "report" / "index.html").read_text()
    tree = tmp_path / "tree"
    run = str(out / "cells" / "InfluenceSpace-0.5-3")
    assert main(["export", "--run", run, "--to", "influence-space", "--path", str(tree)]) == 0
    names = ("random", "coreset_selection", "individual_influence")
    assert {f.name for f in (tree / "baselines").glob("*_indices.npy")} == {
        f"{name}_indices.npy" for name in names
    }
    metrics = read(tree / "evaluation/method_metrics.json")
    assert {*names, "influence_space", "full_data"} <= metrics.keys()
    assert all(len(np.load(tree / f"baselines/{name}_uids.npy")) == BUDGET for name in names)
