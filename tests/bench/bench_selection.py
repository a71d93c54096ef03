"""What selection costs beside the authors' procedure, at equal or better results, in one run.

    python tests/bench/bench_selection.py [--large] [--out bench.json]

Both sides run on one thread and are timed in CPU-seconds; each figure is a ratio, since seconds
belong to a machine. Features are synthetic: unit vectors around centres that lie around coarser
centres, of Zipf sizes, with 2 % near-duplicates; `tight` and `diffuse` differ in the spread. Five
kinds stand beside them: `isotropic`, `low rank` (twelve dimensions and a little noise), `blob` (half
of the rows around one centre), `repeated` (half of them copies of a few), and `falling`, a mixture
whose variance falls with the dimension.
"""

import argparse
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.functional import kmeans
from presel_lightning.functional.facility import facility_location
from presel_lightning.functional.medoids import medoids
from presel_lightning.selectors.in_task import select_from_clusters
from tests.bench.common import Row, keep, measured, resident, timed

SPREAD = {"tight": 0.5, "diffuse": 1.2}
PLAIN = ("isotropic", "low rank", "blob", "repeated", "falling")
DIM = 768
POOL = [160_000, 105_000, 85_000, 80_000, 72_000, 50_000, 30_000, 22_000, 15_000, 6_000]


def features(n: int, kind: str, seed: int = 0) -> Tensor:
    """(n, 768) float32 unit vectors of a two-level mixture."""
    generator = torch.Generator().manual_seed(seed)

    def noise(rows: int) -> Tensor:
        return torch.randn(rows, DIM, generator=generator) / math.sqrt(DIM)

    n_fine = max(4, n // 60)
    coarse = normalize(noise(max(2, round(math.sqrt(n_fine)))), dim=1)
    parent = torch.randint(0, len(coarse), (n_fine,), generator=generator)
    fine = normalize(coarse[parent] + 0.8 * noise(n_fine), dim=1)
    share = torch.arange(1, n_fine + 1).double() ** -0.7
    which = torch.multinomial(share, n, replacement=True, generator=generator)
    rows = torch.empty(n, DIM)
    for start in range(0, n, 4096):
        centers = fine[which[start : start + 4096]]
        rows[start : start + 4096] = normalize(centers + SPREAD[kind] * noise(len(centers)), dim=1)
    copies, originals = torch.randperm(n, generator=generator)[: 2 * (n // 50)].view(2, -1)
    rows[copies] = normalize(rows[originals] + 0.02 * noise(len(originals)), dim=1)
    return rows


def plain_features(n: int, kind: str) -> Tensor:
    """(n, 768) float32 unit vectors without clusters within clusters."""
    generator = torch.Generator().manual_seed(1)
    noise = partial(torch.randn, generator=generator)
    rows = noise(n, DIM)
    if kind == "low rank":
        rows = noise(n, 12) @ noise(12, DIM) + 0.05 * rows
    elif kind == "blob":
        rows[: n // 2] = noise(1, DIM) + 0.05 * rows[: n // 2]
    elif kind == "repeated":
        few = torch.randint(0, max(1, n // 67), (n // 2,), generator=generator)
        rows[: n // 2] = noise(max(1, n // 67), DIM)[few]
    elif kind == "falling":  # a mixture whose variance falls with the dimension, as of encoders
        scale = torch.arange(1, DIM + 1) ** -0.5
        centers = noise(max(1, n // 67), DIM) * scale
        rows = centers[torch.randint(0, len(centers), (n,), generator=generator)] + rows * scale
    return normalize(rows, dim=1)


def inertia(rows: Tensor, labels: Tensor) -> float:
    """Sum of squared distances to the means of the clusters, in float64."""
    count = torch.bincount(labels)
    sums = torch.zeros(len(count), rows.shape[1], dtype=torch.float64)
    for part, label in zip(rows.split(4096), labels.split(4096), strict=True):
        sums.index_add_(0, label, part.double())
    within = (sums.square().sum(dim=1) / count.clamp(min=1)).sum()
    return float(rows.square().sum(dtype=torch.float64) - within)


def authors_labels(rows: Tensor, seed: int = 12345, per_cluster: int = 100) -> Tensor:
    """k-means as the authors' script calls it (scikit-learn >= 1.4: one initialisation)."""
    model = KMeans(max(1, len(rows) // per_cluster), random_state=seed).fit(rows.numpy())
    return torch.from_numpy(model.labels_).long()


def our_labels(rows: Tensor, seed: int, per_cluster: int = 100) -> Tensor:
    """Ours, with as many clusters."""
    return kmeans(rows, max(1, len(rows) // per_cluster), seed=seed).labels


def authors_selection(rows: Tensor, labels: Tensor, budget: int, excluded: Tensor) -> list[int]:
    """The rest of their script: quotas, one mending pass, exact kNN, the most typical rows."""
    vectors, clusters = rows.numpy(), labels.numpy()
    names, full = np.unique(clusters, return_counts=True)
    free = {int(c): np.flatnonzero((clusters == c) & ~excluded.numpy()) for c in names}
    size = dict(zip(free, full.tolist(), strict=True))
    total = sum(len(here) for here in free.values())
    quota = {c: min(round(len(here) / total * budget), len(here)) for c, here in free.items()}
    rest = budget - sum(quota.values())
    step = 1 if rest > 0 else -1
    for c in sorted(quota, key=lambda name: size[name], reverse=rest > 0):
        if rest and (quota[c] < len(free[c]) if rest > 0 else quota[c] > 0):
            quota[c] += step
            rest -= step
    chosen: list[int] = []
    for c, count in quota.items():
        if count > 0:
            k = min(5, len(free[c]) - 1)
            similarity = vectors[free[c]] @ vectors[free[c]].T
            nearest = -np.sort(-similarity, axis=1)[:, 1 : k + 1]
            typical = nearest.mean(axis=1) if k else np.zeros(1)
            chosen += free[c][np.argsort(-typical, kind="stable")[:count]].tolist()
    return sorted(chosen)


def clustering(n: int, kind: str, seeds: int, per_cluster: int = 100) -> Row:
    """Their k-means against ours: mean time and mean inertia over the seeds of each side."""
    rows = plain_features(n, kind) if kind in PLAIN else features(n, kind)
    theirs = [timed(partial(authors_labels, rows, 12345 + s, per_cluster)) for s in range(seeds)]
    ours = [timed(partial(our_labels, rows, s, per_cluster)) for s in range(2 * seeds)]
    their_inertia = [inertia(rows, labels) for labels, _ in theirs]
    our_inertia = [inertia(rows, labels) for labels, _ in ours]
    reference = float(np.mean(their_inertia))
    labels = ours[0][0]
    turned = our_labels(rows.flip(0), 0, per_cluster).flip(0)
    return {
        "what": "k-means",
        "data": f"{kind} {n}" + (f", k = n / {per_cluster}" if per_cluster != 100 else ""),
        "authors_cpu_s": round(float(np.mean([s for _, s in theirs])), 2),
        "ours_cpu_s": round(float(np.mean([s for _, s in ours])), 3),
        "times_faster": round(
            float(np.mean([s for _, s in theirs]) / np.mean([s for _, s in ours])), 1
        ),
        "inertia_ratio": round(float(np.mean(our_inertia)) / reference, 4),
        "inertia_ratio_worst_seed": round(max(our_inertia) / reference, 4),
        "empty_clusters": n // per_cluster - len(labels.unique()),
        "same_labels_reversed_rows": bool(torch.equal(labels, turned)),
    }


def stage(n: int, kind: str) -> Row:
    """Clustering and selection together; on equal labels, whether both sides select the same images."""
    rows = features(n, kind)
    excluded = torch.rand(n, generator=torch.Generator().manual_seed(1)) < 0.05
    labels, their_clustering = timed(partial(authors_labels, rows))
    theirs, their_choice = timed(partial(authors_selection, rows, labels, n // 10, excluded))
    ours, our_choice = timed(
        partial(select_from_clusters, rows, labels, n // 10, excluded, "official")
    )
    clusters, our_clustering = timed(partial(our_labels, rows, 0))
    times_faster = (their_clustering + their_choice) / (our_clustering + our_choice)
    return {
        "what": "k-means and choice",
        "data": f"{kind} {n}",
        "authors_cpu_s": [round(their_clustering, 2), round(their_choice, 3)],
        "ours_cpu_s": [round(our_clustering, 3), round(our_choice, 3)],
        "times_faster": round(times_faster, 1),
        "inertia_ratio": round(inertia(rows, clusters) / inertia(rows, labels), 4),
        "same_images_on_equal_labels": theirs == ours.rows.tolist(),
    }


def growth(sizes: list[int]) -> Row:
    """Exponent p of our cost ~ N^p over the sizes, at N / 100 clusters."""
    seconds = []
    for n in sizes:
        rows = features(n, "diffuse")
        seconds.append(min(timed(partial(our_labels, rows, seed))[1] for seed in (0, 1)))
    exponent = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    return {
        "what": "growth of k-means",
        "data": f"diffuse {sizes}",
        "ours_cpu_s": [round(s, 2) for s in seconds],
        "exponent": round(float(exponent), 2),
    }


def in_one_task(sizes: list[int], rule: str) -> Row:
    """A tenth of one task by medoids or facility location: exponent over the sizes, memory."""
    rules: dict[str, Callable[[Tensor, int], object]] = {
        "medoids": partial(medoids, seed=0),
        "facility location": partial(facility_location, seed=0),
    }
    seconds, memory = [], 0.0
    for n in sizes:
        rows = features(n, "diffuse").half()
        _, taken, memory = measured(partial(rules[rule], rows, n // 10))
        seconds.append(taken)
    return {
        "what": rule,
        "data": f"diffuse {sizes}, n / 10",
        "ours_cpu_s": [round(s, 1) for s in seconds],
        "largest_cpu_s": round(seconds[-1], 1),
        "exponent": round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 2),
        "held_gib": round(memory / 2**10, 2),
    }


def pool(sizes: list[int]) -> Row:
    """Features on disk in, selection out, in a process of its own: CPU-seconds and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        mapped = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float16, shape=(sum(sizes), DIM)
        )
        for task, end in enumerate(np.cumsum(sizes)):
            rows = features(sizes[task], "diffuse", seed=task)
            mapped[end - sizes[task] : end] = rows.half().numpy()
        mapped.flush()
        del mapped
        with multiprocessing.get_context("spawn").Pool(1) as workers:
            idle = workers.apply(_select_pool, (path, []))
            seconds, peak, chosen = workers.apply(_select_pool, (path, sizes))
    return {
        "what": "whole pool, memory-mapped float16",
        "data": f"diffuse {sum(sizes)} in {len(sizes)} tasks",
        "ours_cpu_s": round(seconds, 1),
        "peak_gib": round(peak, 2),
        "peak_gib_before": round(idle[1], 2),
        "chosen": chosen,
    }


def _select_pool(path: Path, sizes: list[int]) -> tuple[float, float, int]:
    torch.set_num_threads(1)
    start, at, chosen = time.process_time(), 0, 0
    for n in sizes:
        rows = torch.from_numpy(np.load(path, mmap_mode="c")[at : at + n])
        labels = our_labels(rows, 0)
        chosen += len(
            select_from_clusters(rows, labels, n // 10, torch.zeros(n, dtype=torch.bool)).rows
        )
        at += n
    return time.process_time() - start, resident("VmHWM") / 2**10, chosen


def main() -> None:
    """Run, print each row with its bars, and put the rows into the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--large", action="store_true", help="80k, 160k and 625k images too")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    put = partial(keep, arguments.out)
    same = {"empty_clusters": "== 0", "same_labels_reversed_rows": "== true"}
    at_20k = {"times_faster": ">= 7", "inertia_ratio": "<= 1.001"}
    at_80k = {"times_faster": ">= 20", "inertia_ratio": "<= 1.002"}
    in_all = {"same_images_on_equal_labels": "== true"}
    with threadpool_limits(1):
        put(clustering(5_000, "diffuse", 3), **same)
        for kind in SPREAD:
            put(clustering(20_000, kind, 2), **at_20k, **same)
            put(stage(20_000, kind), **at_20k, **in_all)
        for kind in PLAIN:
            put(clustering(20_000, kind, 2), **at_20k, **same)
        put(clustering(20_000, "falling", 1, per_cluster=7), **same)
        put(growth([10_000, 20_000, 40_000]), exponent="<= 1.3")
        put(in_one_task([2_500, 5_000, 10_000], "facility location"))
        put(pool([20_000, 5_000]))
        if arguments.large:
            for kind in SPREAD:
                put(clustering(80_000, kind, 1), **at_80k, **same)
            put(growth([20_000, 80_000, 160_000]), exponent="<= 1.3")
            at_600k = {"largest_cpu_s": "<= 900", "held_gib": "<= 6"}
            put(in_one_task([150_000, 300_000, 600_000], "medoids"), **at_600k)
            put(pool(POOL), ours_cpu_s="<= 180", peak_gib="<= 4")


if __name__ == "__main__":
    main()
