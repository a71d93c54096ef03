"""What selectors by instructions hold in memory, and what they cost, in one run.

    python tests/bench/bench_instructions.py [--large] [--out bench.json]

Rows are synthetic: normal vectors around centers of Zipf sizes. `--large` takes DataTailor's 100,000
samples of 4,096 numbers, and COINCIDE's 20,480; without it everything is small enough for a minute.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from presel_lightning.functional.greedy import pick_and_lower
from presel_lightning.functional.neighbors import nearest_neighbors
from presel_lightning.functional.spherical import spherical_kmeans
from presel_lightning.functional.ward import ward_labels
from presel_lightning.selectors import DataTailor
from tests.bench.common import keep, measured, timed


def clumps(rows: np.ndarray, seed: int = 0) -> None:
    """Fill rows (N, D) with vectors around N / 30 centers, block by block."""
    rng = np.random.default_rng(seed)
    n_centers = max(4, len(rows) // 30)
    centers = rng.normal(size=(n_centers, rows.shape[1])).astype(np.float32)
    share = np.arange(1, n_centers + 1.0) ** -0.7
    which = rng.choice(n_centers, len(rows), p=share / share.sum())
    for start in range(0, len(rows), 2048):
        own = centers[which[start : start + 2048]]
        rows[start : start + 2048] = own + 0.3 * rng.normal(size=own.shape)


def bench_ward(out: Path) -> None:
    """Clusters by micro-clusters beside those of the exact linkage."""
    rows = np.empty((3000, 256), dtype=np.float32)
    clumps(rows)
    exact, slow = timed(lambda: ward_labels(rows, 0.1, seed=0))
    for micro in (300, 1000):
        found, quick = timed(lambda: ward_labels(rows, 0.1, seed=0, exact=0, micro=micro))  # noqa: B023
        row = {
            "what": "Ward by micro-clusters",
            "data": f"{len(rows)} x 256, {micro} micro-clusters",
            "clusters_exact": int(exact.max()) + 1,
            "clusters": int(found.max()) + 1,
            "adjusted_rand_index": round(float(adjusted_rand_score(exact, found)), 3),
            "share_of_cpu_time": round(quick / slow, 2),
        }
        keep(out, row)


def bench_datatailor(out: Path, n: int, width: int) -> None:
    """Scores of one task, and what they hold beside its states."""
    rows = np.empty((n, width), dtype=np.float32)
    clumps(rows)
    rng = np.random.default_rng(0)
    information, turns = rng.uniform(1, 6, n), rng.integers(1, 6, n)
    _, seconds, memory = measured(lambda: DataTailor().scores(rows, information, turns, 0))
    held = (memory + rows.nbytes / 2**20) / 1024
    row = {
        "what": "DataTailor, one task",
        "data": f"{n} x {width}",
        "cpu_s": round(seconds, 1),
        "held_gib": round(held, 2),
        "gib_of_all_distances": round(8 * n * n / 2 / 2**30, 1),
    }
    keep(out, row, held_gib="<= 8")


def bench_spherical(out: Path, n: int, width: int, clusters: int) -> None:
    """COINCIDE's k-means on activations that lie on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, width))
        clumps(rows)
        rows.flush()
        del rows
        stored = np.load(path, mmap_mode="r")
        _, seconds, memory = measured(
            lambda: spherical_kmeans(stored, np.arange(n), clusters, seed=0, n_iter=3)
        )
    row = {
        "what": "spherical k-means, 3 passes",
        "data": f"{n} x {width}, {clusters} clusters",
        "cpu_s": round(seconds, 1),
        "rows_mib_float32": round(4 * n * width / 2**20),
        "held_mib": round(memory),
    }
    keep(out, row)


def bench_picks(out: Path, n: int, picks: int) -> None:
    """Self-Filter's picks by a heap, beside a sort at every pick; the graph of neighbors."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, 64, generator=generator)
    (places, near), graph_s, graph_mib = measured(lambda: nearest_neighbors(features, 10))
    values = torch.rand(n, generator=generator).double().numpy()
    factors = near.double().square().numpy()

    def sorting() -> list[int]:
        current, order = values.copy(), []
        left = np.ones(n, dtype=bool)
        for _ in range(picks):
            row = next(r for r in np.argsort(-current, kind="stable") if left[r])
            left[row] = False
            order.append(int(row))
            others = places[row].numpy()
            free = left[others]
            current[others[free]] -= factors[row][free] * current[row]
        return order

    found, quick = timed(lambda: pick_and_lower(values, places.numpy(), factors, picks))
    expected, slow = timed(sorting)
    row = {
        "what": "picks by a heap",
        "data": f"{picks} of {n}",
        "equal": found.tolist() == expected,
        "times_faster": round(slow / quick, 1),
        "graph_cpu_s": round(graph_s, 1),
        "graph_held_mib": round(graph_mib),
        "all_similarities_mib": round(4 * n * n / 2**20),
    }
    keep(out, row, equal="== true", times_faster=">= 10")


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        bench_picks(given.out, 10_000, 500)
        bench_ward(given.out)
        if given.large:
            bench_spherical(given.out, 20_000, 20_480, 300)
            bench_datatailor(given.out, 100_000, 4096)
        else:
            bench_spherical(given.out, 6_000, 4_096, 90)
            bench_datatailor(given.out, 6_000, 512)


if __name__ == "__main__":
    main()
