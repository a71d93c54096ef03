"""What it costs to make a pool of very many records and to select from it, through the CLI.

    python tests/bench/bench_pool.py [--records N | --large] [--out bench.json]

Records are synthetic, in ten tasks, and share a few hundred small images, so that the disk holds
them: 0.7 kB a record, annotations and run folder together. Only image headers are read, and
samples are selected at random: this measures the cost of a record, independent of the method.
Each size runs in a process of its own; its CPU-seconds count less those of a run of 1000 records.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bench.common import Row, keep

IMAGES, TASKS = 500, 10
START = 1000
"""Records of the run that measures the startup cost."""


def images(folder: Path) -> None:
    """Pictures of 16 x 16 noise."""
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        noise = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{number}.png")


def annotations(path: Path, n: int) -> None:
    """JSON lines: a question and an answer of fifteen words each, no two records the same."""
    with path.open("w", encoding="utf-8") as handle:
        for number in range(n):
            question = (
                f"<image>\nWhat is seen in picture {number}, and what stands to the left of it?"
            )
            answer = (
                f"A thing called {31337 * number % 1000003}, beside another one that is smaller."
            )
            record = {
                "id": f"{number:09d}",
                "image": f"images/{7919 * number % IMAGES}.png",
                "task": f"task-{number % TASKS}",
                "conversations": [
                    {"from": "human", "value": question},
                    {"from": "gpt", "value": answer},
                ],
            }
            handle.write(json.dumps(record) + "\n")


def selected(folder: Path, n: int) -> tuple[float, float, dict[str, float]]:
    """CPU-seconds, peak GiB and wall seconds of each stage of `select` on n records."""
    path, out = folder / "pool.jsonl", folder / "run"
    annotations(path, n)
    command = [sys.executable, "-m", "presel_lightning", "select", "--config", "quickstart.yaml"]
    command += ["--data.annotations", str(path), "--data.verify", "header", "--selector", "Random"]
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"select failed on {n} records")
    stages = json.loads((out / "run.json").read_text(encoding="utf-8"))["stages"]
    lines = len((out / "selection" / "selected.json").read_text(encoding="utf-8").splitlines())
    assert stages["pool"]["samples"] == n and lines == round(0.15 * n) + 2
    shutil.rmtree(out)
    seconds = {name: round(stage["seconds"], 1) for name, stage in stages.items()}
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20, seconds


def growth(folder: Path, n: int) -> Row:
    """Cost and memory at three sizes, the largest of n records."""
    images(folder)
    start, idle, _ = selected(folder, START)
    sizes = [n // 4, n // 2, n]
    runs = [selected(folder, size) for size in sizes]
    cpu = [seconds - start for seconds, _, _ in runs]
    return {
        "what": "pool and random selection",
        "data": f"{n} records in {TASKS} tasks",
        "sizes": sizes,
        "ours_cpu_s": [round(seconds, 1) for seconds in cpu],
        "records_a_cpu_s": round(n / cpu[-1]),
        "exponent": round(float(np.polyfit(np.log(sizes), np.log(cpu), 1)[0]), 2),
        "peak_gib": round(runs[-1][1], 2),
        "peak_gib_of_1000_records": round(idle, 2),
        "stage_wall_s": runs[-1][2],
    }


def main() -> None:
    """Run, print the row, and put it into the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--large", action="store_true", help="5 million records: 5 GB of disk")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = growth(Path(folder), 5_000_000 if arguments.large else arguments.records)
        keep(arguments.out, row, exponent="<= 1.2", peak_gib="<= 8")


if __name__ == "__main__":
    main()
