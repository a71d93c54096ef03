"""Synthetic metadata with the edge cases of real pools, and the door to `filter`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from presel_lightning.cli.main import main

JAPANESE = "これは犬の写真です とても かわいい"
RUSSIAN = "мальчик играет с собакой на берегу моря"  # noqa: RUF001
CAPTIONS = [
    None,
    "",
    "   ",
    "dog",
    "a dog",
    "a  dog",
    "a dog ran",
    "a\u00a0dog\u2003ran",  # blanks that Unicode has and ASCII has not
    "\u3000a dog ran\u2028",
    "a\x1cdog\x1fran",
    "a\ndog\nran along",
    "dog\n",
    "\n\ndogs",
    "a\x00b\x00c dog",
    "a b c",
    "a b cd",
    "the quick brown fox jumps over the lazy dog",
    "A photo of two dogs, playing on the beach",
    "a white house in the mountains of Norway",
    "ein weißes Haus steht auf dem Berg im Schnee",
    "une maison blanche dans les montagnes de France",
    JAPANESE,
    RUSSIAN,
    "IMG_1234.JPG",
    "dsc0001.jpeg photo",
    "mice and men",
    "Dogs",
    "Dogs are running",
]


def uids(rng: np.random.Generator, n: int) -> list[str]:
    return [rng.bytes(16).hex() for _ in range(n)]


def datacomp(folder: Path, *, files: int = 3, rows: int = 150, seed: int = 0) -> pd.DataFrame:
    """Metadata as DataComp ships it, embeddings beside it; returns all rows in pool order."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tables: list[pd.DataFrame] = []
    for number in range(files):
        names = uids(rng, rows)
        names[1] = names[0]  # a uid may be there twice
        if tables:
            names[2] = tables[0]["uid"][5]
        sides = rng.choice([1, 10, 66, 199, 200, 201, 600, 601, 1000], (rows, 2)).astype(object)
        sides[3, 0] = None
        table = pd.DataFrame(
            {
                "uid": names,
                "url": [f"http://example.com/{n}" for n in names],
                "text": some(rng, CAPTIONS, rows),
                "original_width": pd.array(sides[:, 0], "Int64"),
                "original_height": pd.array(sides[:, 1], "Int64"),
                "clip_b32_similarity_score": scores(rng, rows, [0.25, 0.28]),
                "clip_l14_similarity_score": scores(rng, rows, [0.2, 0.3]),
            }
        )
        schema = pa.schema(
            [
                ("uid", pa.string()),
                ("url", pa.string()),
                ("text", pa.string()),
                ("original_width", pa.int64()),
                ("original_height", pa.int64()),
                ("clip_b32_similarity_score", pa.float32()),
                ("clip_l14_similarity_score", pa.float32()),
            ]
        )
        pq.write_table(
            pa.Table.from_pandas(table, schema, preserve_index=False),
            folder / f"{number:05d}.parquet",
            row_group_size=64,
        )
        images = rng.normal(size=(rows, 8)).astype(np.float16)
        np.savez(folder / f"{number:05d}.npz", l14_img=images, b32_img=images[:, :4])
        table["l14_img"] = list(images)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def some(rng: np.random.Generator, texts: list[str | None], n: int) -> pd.Series:
    return pd.Series(rng.choice(np.array(texts, object), n), dtype=object)


def scores(rng: np.random.Generator, n: int, often: list[float]) -> np.ndarray:
    """Two decimals, so that there are ties; some values often; some NaN."""
    found = np.where(rng.random(n) < 0.3, rng.choice(often, n), rng.random(n).round(2) * 0.4)
    found = found.astype(np.float32)
    found[rng.random(n) < 0.05] = np.nan
    return found


def shards(folder: Path, *, digits: int = 8, files: int = 3, rows: int = 120) -> pd.DataFrame:
    """Metadata of img2dataset beside shards, and a file of scores for each metric."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    texts = ["85", "85\nA dog.", " 100", "10,", "N/A", "", "84", "90;", "66", "20", "8_5", None]
    metrics = ["image_text_matching", "object_detail_fulfillment"]
    metrics += ["caption_text_quality", "semantic_understanding"]
    tables = []
    for number in range(files):
        table = pd.DataFrame(
            {
                "uid": uids(rng, rows),
                "caption": some(rng, CAPTIONS, rows),
                "original_width": rng.choice([5, 9, 10, 39, 40, 41, 500], rows),
                "original_height": rng.choice([10, 40, 160, 161, 500], rows),
                "status": rng.choice(["success", "failed_to_download"], rows, p=[0.8, 0.2]),
            }
        )
        name = f"{number:0{digits}d}"
        table.to_parquet(folder / f"{name}.parquet")
        for metric in metrics:
            table[f"{metric}_score"] = some(rng, texts, rows)
            table["quality_score"] = rng.random(rows).astype(np.float32)
            # in an order of its own, without some rows
            part = table[["uid", f"{metric}_score"]].sample(frac=0.95, random_state=number)
            part.to_parquet(folder / f"{name}_{metric}.parquet")
            table.loc[~table["uid"].isin(part["uid"]), f"{metric}_score"] = None
        table[["uid", "quality_score"]].to_parquet(folder / f"{name}_reward.parquet")
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def pairs(names: Any) -> list[tuple[int, int]]:
    """Sorted uids as DataComp writes them, by Python's own `int`."""
    return sorted((int(name[:16], 16), int(name[16:32], 16)) for name in names)


def run_filter(folder: Path, output: Path, rules: list[Any], *more: str) -> list[tuple[int, int]]:
    """What `filter` writes."""
    words = ["--metadata", str(folder), "--output", str(output), *more]
    code = main(["filter", *words, "--rules", yaml.safe_dump(rules, default_flow_style=True)])
    assert code == 0
    found = np.load(output)
    assert found.dtype == np.dtype("u8,u8")
    return [tuple(row) for row in found.tolist()]
