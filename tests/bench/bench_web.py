"""What web-scale filters and resharding cost beside straight ports of DataComp's scripts.

    python tests/bench/bench_web.py [--rows N] [--file_rows N [N ...]] [--samples N] [--large] [--out bench.json]

The ports do what the published scripts do, with pandas and webdataset, in one process and without
their pools of processes, which only add to their cost. Both sides are timed in CPU-seconds of this
process, after their imports, and their results are compared. Metadata and shards are synthetic;
language identification is left out of the basic filter, as it costs the same on both sides. Memory
is the peak of a process of its own, at N rows and at five times as many, in files of the same size.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

from presel_lightning.filters import BasicFilter, ClipScore
from presel_lightning.filters.command import FilterRun
from presel_lightning.shards.reshard import Reshard
from tests.bench.common import Row, keep, timed

FILES = (500_000, 100_000)
"""Rows of a metadata file: as DataComp divides them, and smaller ones."""
TAR = 2_000
"""Samples of a shard."""
WORDS = "a photo of the two dogs cat house beach 2021 image stock new red in on".split()  # noqa: SIM905
REPEATS = 5
SCORE = "clip_l14_similarity_score"
THRESHOLD = 0.226
"""Three of ten scores are above it."""


def metadata(folder: Path, rows: int, file_rows: int) -> None:
    """DataComp's columns: captions of 0 to 12 words, sides of 50 to 1,500 pixels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, start in enumerate(range(0, rows, file_rows)):
        n = min(file_rows, rows - start)
        digits = rng.bytes(16 * n).hex()
        words = np.array(WORDS)[rng.integers(0, len(WORDS), (n, 12))].tolist()
        lengths = rng.integers(0, 13, n).tolist()
        table = {
            "uid": [digits[i : i + 32] for i in range(0, 32 * n, 32)],
            "url": [f"https://example.com/{i}.jpg" for i in range(n)],
            "text": [" ".join(some[:k]) for some, k in zip(words, lengths, strict=True)],
            "original_width": rng.integers(50, 1500, n),
            "original_height": rng.integers(50, 1500, n),
            SCORE: rng.normal(0.2, 0.05, n).astype(np.float32),
        }
        pq.write_table(pa.table(table), folder / f"{number:05d}.parquet")


def as_pairs(uids: pd.Series) -> np.ndarray:
    """Uids one by one, as the published script reads them."""
    return np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in uids], "u8,u8")


def pandas_fraction(folder: Path, output: Path, behind: int = 1) -> None:
    """A threshold from the whole column, the score behind the fraction or its last; then each file again."""
    tables = [pd.read_parquet(path, columns=[SCORE]) for path in sorted(folder.glob("*.parquet"))]
    column = pd.concat(tables)[SCORE].to_numpy()
    pandas_threshold(folder, output, -np.sort(-column)[int(len(column) * 0.3) - 1 + behind])


def pandas_threshold(folder: Path, output: Path, threshold: float = THRESHOLD) -> None:
    """Each file once."""
    found = []
    for path in sorted(folder.glob("*.parquet")):
        table = pd.read_parquet(path, columns=["uid", SCORE])
        found.append(as_pairs(table["uid"][table[SCORE] >= np.float32(threshold)]))
    uids = np.concatenate(found)
    uids.sort()
    np.save(output, uids)


def pandas_basic(folder: Path, output: Path) -> None:
    """Each condition as a column of its own."""
    found = []
    columns = ["uid", "text", "original_width", "original_height"]
    for path in sorted(folder.glob("*.parquet")):
        table = pd.read_parquet(path, columns=columns)
        words = table["text"].apply(lambda text: len(text.split()) > 2)
        letters = table["text"].apply(len) > 5
        sides = table[["original_width", "original_height"]]
        short, long = sides.min(axis=1), sides.max(axis=1)
        mask = words & letters & (short >= 200) & (long / short <= 3.0)
        found.append(as_pairs(table["uid"][mask]))
    uids = np.concatenate(found)
    uids.sort()
    np.save(output, uids)


CLIP, BASIC = "clip-score filter, 30 %", "basic filter without language"
RULES = {
    CLIP: "{clip_score: {fraction: 0.3, ties: published}}",
    BASIC: "{basic_filter: {language: null}}",
}
OURS = {
    CLIP: ClipScore(fraction=0.3, ties="published"),
    f"{CLIP}, exact": ClipScore(fraction=0.3),
    "clip-score filter, threshold": ClipScore(threshold=THRESHOLD),
    BASIC: BasicFilter(language=None),
}
PORTS: dict[str, Callable[[Path, Path], None]] = {
    CLIP: pandas_fraction,
    f"{CLIP}, exact": partial(pandas_fraction, behind=0),
    "clip-score filter, threshold": pandas_threshold,
    BASIC: pandas_basic,
}


def filter_words(folder: Path, rule: str, output: Path) -> list[str]:
    """Our command."""
    return ["filter", "--metadata", str(folder), "--rules", f"[{rule}]", "--output", str(output)]


def compared(costs: list[tuple[float, float]]) -> Row:
    """Medians of both sides, their ratio, and that of each repetition."""
    ours, theirs = np.median(np.array(costs), axis=0).tolist()
    return {
        "ours_cpu_s": round(ours, 2),
        "port_cpu_s": round(theirs, 2),
        "times_cheaper": round(theirs / ours, 1),
        "of_each": sorted(round(reference / seconds, 1) for seconds, reference in costs),
    }


def filtering(folder: Path, rows: int, file_rows: int, what: str) -> Row:
    """Ratio of CPU-seconds at equal files."""
    ours, theirs = folder / "ours.npy", folder / "theirs.npy"
    meta = folder / f"meta-{rows}-{file_rows}"
    costs = []
    for _ in range(REPEATS):
        ours.unlink(missing_ok=True)
        _, seconds = timed(lambda: FilterRun(str(meta), (OURS[what],), ours).run())
        _, reference = timed(partial(PORTS[what], meta, theirs))
        assert ours.read_bytes() == theirs.read_bytes()
        costs.append((seconds, reference))
    return {
        "what": what,
        "data": f"{rows} rows in files of {file_rows}",
        "kept": len(np.load(ours, mmap_mode="r")),
        **compared(costs),
        "same_bytes": True,
    }


def peak(words: list[str]) -> float:
    """Peak MiB of a process that runs a command."""
    code = (
        "import sys; from pathlib import Path; from presel_lightning.cli.main import main; "
        "assert main(sys.argv[1:]) == 0; assert 'torch' not in sys.modules; "
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return int(done.stdout.split()[-1]) / 2**10


def memory(folder: Path, rows: int, file_rows: int, what: str) -> Row:
    """Peak memory at two sizes of the pool."""
    sizes = [rows, 5 * rows]
    peaks = [
        peak(filter_words(folder / f"meta-{n}-{file_rows}", RULES[what], folder / f"peak-{n}.npy"))
        for n in sizes
    ]
    return {
        "what": f"memory of the {what}",
        "data": f"{sizes[0]} and {sizes[1]} rows",
        "peak_mib": [round(value) for value in peaks],
        "growth": round(peaks[1] / peaks[0], 2),
    }


def shards(folder: Path, samples: int) -> np.ndarray:
    """Shards of noise of 22 kB an image, with captions and records; returns all uids."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    uids = []
    for number, start in enumerate(range(0, samples, TAR)):
        with tarfile.open(folder / f"{number:08d}.tar", "w") as tar:
            for place in range(start, min(start + TAR, samples)):
                uid = rng.bytes(16).hex()
                uids.append((int(uid[:16], 16), int(uid[16:], 16)))
                record = {"uid": uid, "key": f"{place:09d}", "status": "success", "exif": "{}"}
                files = {
                    "jpg": rng.bytes(int(rng.integers(8_000, 36_000))),
                    "txt": b"a photo of a dog",
                    "json": json.dumps(
                        {**record, "url": "https://example.com", "width": 512}
                    ).encode(),
                }
                for ending, content in files.items():
                    info = tarfile.TarInfo(f"{place:09d}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, BytesIO(content))
    return np.array(uids, "u8,u8")


def port_of_resharder(source: Path, subset: Path, output: Path, size: int) -> None:
    """Read every sample, look its uid up, write what is asked for."""
    output.mkdir()
    table = np.load(subset, mmap_mode="r")
    urls = [str(path) for path in sorted(source.glob("*.tar"))]
    writer, written, number = None, 0, 0
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        uid = json.loads(sample["json"])["uid"]
        key = np.array([(int(uid[:16], 16), int(uid[16:32], 16))], "u8,u8")[0]
        left, right = (int(np.searchsorted(table, key, side)) for side in ("left", "right"))
        for copy in range(right - left):
            if writer is None or written == size:
                if writer is not None:
                    writer.close()
                writer = webdataset.TarWriter(str(output / f"{number:08d}.tar"))
                written, number = 0, number + 1
            members = {k: v for k, v in sample.items() if not k.startswith("__")}
            writer.write({"__key__": f"{uid}-{copy}", **members})
            written += 1
    if writer is not None:
        writer.close()


def contents(folder: Path) -> list[tuple[str, bytes]]:
    """Names and bytes of all members."""
    found = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [(i.name, tar.extractfile(i).read()) for i in tar]  # type: ignore[union-attr]
    return found


def resharding(folder: Path, samples: int) -> Row:
    """Ratio of CPU-seconds at equal members."""
    uids = shards(folder / "shards", samples)
    rng = np.random.default_rng(2)
    chosen = np.sort(rng.choice(uids, int(0.3 * samples), replace=False))
    np.save(folder / "subset.npy", chosen)
    costs = []
    for repeat in range(REPEATS):
        ours, theirs = folder / f"ours-{repeat}", folder / f"theirs-{repeat}"
        call = Reshard(folder / "shards", folder / "subset.npy", ours)
        _, seconds = timed(call.run)
        _, reference = timed(
            partial(port_of_resharder, folder / "shards", folder / "subset.npy", theirs, 10_000)
        )
        assert contents(ours) == contents(theirs)
        costs.append((seconds, reference))
    return {
        "what": "reshard, 30 % kept",
        "data": f"{samples} samples",
        **compared(costs),
        "same_members": True,
    }


def main() -> None:
    """Run, print the rows, and put them into the file."""
    # the ports import torch by webdataset, the commands do not: what imports made is left alone by the
    # garbage collection of either side
    gc.collect()
    gc.freeze()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--file_rows", type=int, nargs="+", default=FILES)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--large", action="store_true", help="nothing more is measured")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, first = arguments.rows, arguments.file_rows[0]
        metadata(folder / f"meta-{5 * rows}-{first}", 5 * rows, first)
        for file_rows in arguments.file_rows:
            metadata(folder / f"meta-{rows}-{file_rows}", rows, file_rows)
            for what in OURS:
                row = filtering(folder, rows, file_rows, what)
                keep(arguments.out, row, times_cheaper=">= 4")
        for what in RULES:
            keep(arguments.out, memory(folder, rows, first, what), growth="<= 1.1")
        keep(arguments.out, resharding(folder, arguments.samples), times_cheaper=">= 5")


if __name__ == "__main__":
    main()
