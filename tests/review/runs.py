"""Run folders that wait for instructions, for the tests of the page."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.review.command import open_session
from presel_lightning.review.server import ReviewServer
from tests.eval.report.runs import write_ledger, write_samples

N, BUDGET = 36, 12


def make_photos(folder: Path) -> None:
    """Two tasks of 36 photographs without instructions."""
    rng = np.random.default_rng(0)
    for task in ("cats & <dogs>", "signs"):
        (folder / task).mkdir(parents=True)
        for n in range(N):
            pixels = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / task / f"{n:02}.jpg")


def select(photos: Path, out: Path, *more: str) -> int:
    """Select at random, without a model: exit code 3 while instructions are missing."""
    options = ["--config", "photos.yaml", "--selector", "Random", "--data.annotations", str(photos)]
    budget = ["--data.budget", str(BUDGET), "--data.num_workers", "0", "--out", str(out)]
    return main(["select", *options, *budget, *more])


def selected(out: Path) -> dict[str, str]:
    """Image of each selected sample, by uid."""
    table = pq.read_table(out / "selection" / "selection.parquet")
    pool = pq.read_table(out / "pool.parquet").to_pylist()
    uids = set(table.filter(table["selected"])["uid"].to_pylist())
    return {row["uid"]: row["image"] for row in pool if row["uid"] in uids}


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


@contextmanager
def serving(out: Path) -> Iterator[ReviewServer]:
    """Serve the page of a run in a thread."""
    session = open_session(out)
    server = ReviewServer(session)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        session.close()


def write_large(out: Path) -> None:
    """A run that selected 7,500 of 50,000 images, none of which has an instruction."""
    table = write_samples(out, {f"task-{i}": 5000 for i in range(10)})
    write_ledger(out)
    (out / "config.yaml").write_text(f"data: {{annotations: {out}, image_root: {out}}}\n")
    images = dict(zip(*pq.read_table(out / "pool.parquet").to_pydict().values()))
    with (out / "selection" / "requests.jsonl").open("w") as handle:
        for row in table.filter(table["selected"]).to_pylist():
            image, prompt = images[row["uid"]], "Write a question."
            record = {"uid": row["uid"], "image": image, "task": row["task"], "why": "selection"}
            handle.write(json.dumps({**record, "prompt": prompt}) + "\n")
