"""The walk of docs/web_scale.md on three tiny shards: scores, uids, new shards, a choice."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from presel_lightning.cli.main import main
from tests.shards.tars import subset, write_tar

PAGE = Path(__file__).parents[2] / "docs" / "web_scale.md"


def picture(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "png")
    return out.getvalue()


def test_the_walk_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    uids = [rng.bytes(16).hex() for _ in range(30)]
    high = []
    for shard in range(3):
        own = range(10 * shard, 10 * shard + 10)
        keys = {place: f"{shard:05d}{place:04d}" for place in own}
        records = [{"uid": uids[place], "key": keys[place]} for place in own]
        files = [
            (keys[place], {"png": picture(place), "json": json.dumps(record).encode()})
            for place, record in zip(own, records, strict=True)
        ]
        write_tar(tmp_path / "shards" / f"{shard:05d}.tar", files)
        table = pd.DataFrame(records).assign(status="success")
        table.to_parquet(tmp_path / "shards" / f"{shard:05d}.parquet")
        scores = [str(60 + 3 * (place % 10)) for place in own]
        table.assign(semantic_understanding_score=scores).to_parquet(
            tmp_path / "shards" / f"{shard:05d}_semantic_understanding.parquet"
        )
        high += [uids[place] for place, score in zip(own, scores, strict=True) if int(score) >= 85]
    subset(tmp_path / "dfn.npy", uids[:6])
    walk = PAGE.read_text(encoding="utf-8").split("## From a folder of shards")[1]
    lines = re.findall(r"python -m presel_lightning (.+)", walk)
    codes = [main(shlex.split(line)) for line in lines]
    assert codes == [0, 0, 0, 3]
    chosen = len({*high, *uids[:6]})
    meta = json.loads((tmp_path / "chosen" / "meta.json").read_text())
    assert meta["output_count"] == chosen == 9
    stages = json.loads((tmp_path / "run" / "run.json").read_text())["stages"]
    assert stages["pool"]["samples"] == chosen
    assert (tmp_path / "run" / "selection" / "requests.jsonl").read_text().strip()
