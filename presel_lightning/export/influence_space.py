"""The file tree of the published InfluenceSpace, with uids beside its row positions."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from presel_lightning.errors import UserError
from presel_lightning.export.folder import new_folder
from presel_lightning.run.files import read_json
from presel_lightning.run.ledger import Ledger

Json = dict[str, Any]

BASELINES = {
    "Random": "random",
    "ClipScore": "clip_score_filtering",
    "KCenter": "diversity_sampling",
    "KMeansPlusPlus": "coreset_selection",
    "DataInf": "individual_influence",
    "IndividualInfluence": "individual_influence",
}
"""Published names of the methods, by our label in a comparison."""
ARMS = {"final": "influence_space", "random": "random", "full": "full_data", "untrained": "untrained"}  # fmt: skip
WAYS = {"image_to_text": "i2t", "text_to_image": "t2i"}
RANKS = (1, 5, 10)


def export_influence_space(run: Path, path: Path) -> str:
    """Write `stage1/ … stage3/`, `baselines/`, `evaluation/` and `results/` of a run.

    Of a cell of a comparison `baselines/` and `evaluation/` hold the cells of its budget and seed, else
    the arms of the run. What a run has not computed is left out. Row positions count the samples in the
    order of the annotations; `uids.npy` names them. Influence is a utility: higher = keep.

    Args:
        run: folder that `select` or `fit` wrote with `InfluenceSpace`.
        path: new folder.

    Returns:
        A summary line.

    Raises:
        UserError: the run has no selection of `InfluenceSpace`.
    """
    method = run / "selection" / "method.json"
    if not (method.is_file() and "eigenvalues" in read_json(method)):
        raise UserError(
            f"--run {run}: no selection of InfluenceSpace there; run `select --config "
            "influence_space.yaml` with this folder as --out, or name a cell of a comparison, "
            "RUN/cells/InfluenceSpace-0.8-0"
        )
    rows = read_rows(run)
    found = read_json(method)
    with new_folder(path) as folder:
        write_embeddings(run, folder / "stage1", rows)
        write_influence(folder / "stage2", found)
        write_curation(folder / "stage3", rows, found)
        others = other_cells(run)
        write_baselines(folder / "baselines", rows, others)
        write_evaluation(folder / "evaluation", run, others)
        write_results(folder / "results", run)
    kept = int(rows["selected"].sum())
    return f"written: {path}, {len(rows['uid'])} samples, {kept} of them curated"


def read_rows(run: Path) -> dict[str, np.ndarray]:
    """Read `selection.parquet` in the order of the annotations, a column each; `row` is the position."""
    table = pq.read_table(run / "selection" / "selection.parquet")
    columns = ("uid", "cluster", "score", "selected", "weight")
    found = {name: np.asarray(table[name].to_pylist()) for name in columns}
    pool = np.asarray(pq.read_table(run / "pool.parquet", columns=["uid"])["uid"].to_pylist())
    place = np.load(run / "work" / "order.npy")[np.searchsorted(pool, found["uid"])]
    order = np.argsort(place, kind="stable")
    return {**{name: values[order] for name, values in found.items()}, "row": np.sort(place)}


def write_embeddings(run: Path, folder: Path, rows: Mapping[str, np.ndarray]) -> None:
    """Write vectors, CLIP scores and clusters of all samples."""
    folder.mkdir()
    np.save(folder / "indices.npy", rows["row"].astype(np.int64))
    np.save(folder / "uids.npy", rows["uid"])
    np.save(folder / "cluster_assignments.npy", rows["cluster"].astype(np.int32))
    members: dict[str, list[int]] = defaultdict(list)
    named: dict[str, list[str]] = defaultdict(list)
    for place, (cluster, uid) in enumerate(zip(rows["cluster"], rows["uid"], strict=True)):
        if cluster >= 0:
            members[str(cluster)].append(place)
            named[str(cluster)].append(str(uid))
    write(folder / "clusters.json", members)
    write(folder / "clusters_uids.json", named)
    signal = run / "signals" / "clip_similarity"
    if not signal.is_dir():
        return
    known = np.load(signal / "uid.npy").astype(str)
    order = np.argsort(known)
    places = np.load(signal / "row.npy")[order[np.searchsorted(known[order], rows["uid"])]]

    def column(name: str, dtype: type) -> np.ndarray:
        values = np.load(signal / f"{name}.npy", mmap_mode="r")
        own = np.full((len(places), *values.shape[1:]), np.nan, dtype)
        own[places >= 0] = values[places[places >= 0]]
        return own

    image, text = column("image", np.float32), column("text", np.float32)
    np.save(folder / "image_embeddings.npy", image)
    np.save(folder / "text_embeddings.npy", text)
    np.save(folder / "concatenated_embeddings.npy", np.concatenate([image, text], axis=1))
    np.save(folder / "clip_scores.npy", column("similarity", np.float64))


def write_influence(folder: Path, found: Json) -> None:
    """Write the eigenvalues, and the utility of each cluster."""
    folder.mkdir()
    np.save(folder / "eigenvalues.npy", np.asarray(found["eigenvalues"], np.float32))
    scores = {str(each["cluster"]): each["utility"] for each in found["clusters"]}
    np.save(folder / "influence_scores.npy", np.asarray(list(scores.values()), np.float64))
    write(folder / "influence_scores.json", scores)
    write(folder / "meta.json", {name: found[name] for name in ("sign", "tail", "damping")})


def write_curation(folder: Path, rows: Mapping[str, np.ndarray], found: Json) -> None:
    """Write the kind and weight of each cluster, and what was selected with its weights."""
    folder.mkdir()
    kinds: dict[str, list[int]] = {"harmful": [], "neutral": [], "beneficial": []}
    for each in found["clusters"]:
        kinds[each["kind"]].append(each["cluster"])
    write(folder / "cluster_categorization.json", kinds)
    selected = rows["selected"]
    weights = {}
    for each in found["clusters"]:
        own = rows["weight"][selected & (rows["cluster"] == each["cluster"])]
        if each["kind"] != "harmful" and len(own):
            weights[str(each["cluster"])] = float(own.max())
    write(folder / "cluster_weights.json", weights)
    np.save(folder / "curated_indices.npy", rows["row"][selected].astype(np.int64))
    np.save(folder / "curated_uids.npy", rows["uid"][selected])
    np.save(folder / "sample_weights.npy", rows["weight"][selected].astype(np.float64))


def other_cells(run: Path) -> dict[str, Path]:
    """Find the cells of the same comparison, budget and seed by label; none where the run is no cell."""
    grid = run.parent.parent / "grid.json"
    if run.parent.name != "cells" or not grid.is_file():
        return {}
    cells = read_json(grid)["cells"]
    own = next((each for each in cells if each["name"] == run.name), None)
    if own is None:
        return {}
    folders = {
        c["selector"]: run.parent / c["name"]
        for c in cells
        if c["seed"] == own["seed"] and c["name"] != run.name
        if c["budget"] == own["budget"] or c["selector"] == "full"
    }
    return {label: f for label, f in folders.items() if (f / "benchmark.json").is_file()}


def write_baselines(
    folder: Path, rows: Mapping[str, np.ndarray], others: Mapping[str, Path]
) -> None:
    """Write what each of the published baselines selected."""
    folder.mkdir()
    for label, cell in others.items():
        if label not in BASELINES:
            continue
        own = read_rows(cell)
        name = BASELINES[label]
        np.save(folder / f"{name}_indices.npy", own["row"][own["selected"]].astype(np.int64))
        np.save(folder / f"{name}_uids.npy", own["uid"][own["selected"]])
        if name == "individual_influence":
            scores = zip(own["row"].tolist(), own["score"].tolist(), strict=True)
            write(folder / f"{name}_scores.json", {str(row): score for row, score in scores})


def write_evaluation(folder: Path, run: Path, others: Mapping[str, Path]) -> None:
    """Write recalls, their comparison, and gaps between groups where the test pairs name some."""
    folder.mkdir()
    places = {ARMS[arm]: (run, arm) for arm in ARMS}
    for label, cell in others.items():
        places[BASELINES.get(label, "full_data" if label == "full" else label)] = (cell, "final")
    metrics, gaps = {}, {}
    for name, (place, arm) in places.items():
        scores = place / "work" / "scores" / f"{arm}.json"
        if not scores.is_file():
            continue
        each = read_json(scores)["benchmarks"]
        metrics[name] = recalls(each)
        spans = {
            bench: max(own["tasks"].values()) - min(own["tasks"].values())
            for bench, own in each.items()
            if own["tasks"]
        }
        if spans:
            gaps[name] = metrics[name]["demographic_gaps"] = spans
    write(folder / "method_metrics.json", metrics)
    if gaps:
        write(folder / "demographic_gaps.json", gaps)
    names = list(dict.fromkeys(k for found in metrics.values() for k in found))
    names = [name for name in names if name != "demographic_gaps"]
    with (folder / "method_comparison.csv").open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(["method", *names])
        table.writerows([name, *(found.get(k) for k in names)] for name, found in metrics.items())


def recalls(scores: Mapping[str, Json]) -> Json:
    """Name scores as published: `i2t_recall@1`, `t2i_recall@1`, `avg_recall@1`; others as they are."""
    found: Json = {
        name: each["score"]
        for name, each in scores.items()
        if not any(name.startswith(f"{way}_r") for way in WAYS)
    }
    for k in RANKS:
        if not all(f"{way}_r{k}" in scores for way in WAYS):
            continue
        own = {short: float(scores[f"{way}_r{k}"]["score"]) for way, short in WAYS.items()}
        found |= {f"{short}_recall@{k}": score for short, score in own.items()}
        found[f"avg_recall@{k}"] = sum(own.values()) / len(own)
    return found


def write_results(folder: Path, run: Path) -> None:
    """Write what the run knows of itself: stages with their seconds, samples and versions."""
    folder.mkdir()
    write(folder / "run.json", Ledger(run / "run.json").read())
    if (config := run / "config.yaml").is_file():
        (folder / "config.yaml").write_text(config.read_text(encoding="utf-8"), encoding="utf-8")


def write(path: Path, value: Mapping[str, Any] | Iterable[Any]) -> None:
    """Write JSON with an indent, as the published code does."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
