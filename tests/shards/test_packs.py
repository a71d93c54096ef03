"""`reshard --pack_length` through the command line, read back by webdataset."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from presel_lightning import quickstart
from presel_lightning.cli.main import main
from presel_lightning.functional.first_fit import first_fit_decreasing
from presel_lightning.functional.packing import next_fit
from presel_lightning.models.tokenizer import load_tokenizer
from tests.shards.tars import subset, write_tar

IMAGE, CAPACITY = 5, 32


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Two shards of captions of 1 to 20 words; of every third sample it stands in the JSON alone."""
    folder, rng = tmp_path_factory.mktemp("captions"), np.random.default_rng(0)
    found = {}
    for number in range(2):
        samples = []
        for place in range(15):
            uid, key = rng.bytes(16).hex(), f"{number:05d}{place:04d}"
            text = " ".join(rng.choice(["a", "dog", "house", "red"], int(rng.integers(1, 21))))
            beside = {} if place % 3 == 0 else {"txt": f"{text}\n".encode()}
            record = json.dumps({"uid": uid, "caption": text}).encode()
            samples.append((key, {"jpg": uid.encode(), "json": record, **beside}))
            found[uid] = text
        write_tar(folder / "in" / f"{number:08d}.tar", samples)
    subset(folder / "s.npy", [*found, *list(found)[:4], *list(found)[:4]])
    return folder, found


def packed(folder: Path, out: Path, *more: str) -> Path:
    words = ["--input", str(folder / "in"), "--subset", str(folder / "s.npy"), "--output", str(out)]
    model = ["--tokenizer", "quickstart", "--image_tokens", str(IMAGE)]
    assert main(["reshard", *words, "--pack_length", str(CAPACITY), *model, *more]) == 0
    return out


def test_sequences_lie_one_behind_another_and_the_table_names_them(
    captions: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, texts = captions
    out = packed(folder, tmp_path / "out", "--shard_size", "3")
    plan = pq.read_table(out / "packs.parquet").to_pydict()
    shards = sorted(out.glob("*.tar"))
    found = [
        (number, each["__key__"], each["jpg"].decode())
        for number, path in enumerate(shards)
        for each in webdataset.WebDataset([str(path)], shardshuffle=False)
    ]
    assert [each[:2] for each in found] == list(zip(plan["shard"], plan["key"], strict=True))
    assert all(key[:32] == content for _, key, content in found)
    expected = [f"{u}-{j}" for n, u in enumerate(texts) for j in range(3 if n < 4 else 1)]
    assert sorted(plan["key"]) == sorted(expected)
    tokenizer = load_tokenizer(str(quickstart.CHECKPOINT))
    counted = [IMAGE + len(tokenizer(texts[key[:32]])["input_ids"]) for key in plan["key"]]
    assert plan["tokens"] == counted
    assert plan["sequence"] == next_fit(np.array(counted), CAPACITY).tolist()
    assert plan["sequence"][-1] < len(first_fit_decreasing(np.array(counted), CAPACITY))
    by_shard = itertools.groupby(zip(plan["shard"], plan["sequence"], strict=True), lambda p: p[0])
    held = [{sequence for _, sequence in each} for _, each in by_shard]
    assert all(len(some) == 3 for some in held[:-1])
    assert sum(map(len, held)) == plan["sequence"][-1] + 1


def test_shuffled_sequences_keep_their_members_on_any_number_of_workers(
    captions: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    def sequences(out: Path) -> list[tuple[str, ...]]:
        plan = pq.read_table(out / "packs.parquet").to_pydict()
        pairs = zip(plan["sequence"], plan["key"], strict=True)
        return [tuple(k for _, k in own) for _, own in itertools.groupby(pairs, lambda p: p[0])]

    plain = packed(captions[0], tmp_path / "plain")
    one, two = (
        packed(captions[0], tmp_path / n, "--shuffle", "1", "--shard_size", "4", "--workers", n)
        for n in ("1", "2")
    )
    assert sequences(one) != sequences(plain)
    assert sorted(sequences(one)) == sorted(sequences(plain))
    for path in one.iterdir():
        if path.name != "meta.json":  # names its folder
            assert path.read_bytes() == (two / path.name).read_bytes()


def test_a_length_without_a_tokenizer_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--input", str(tmp_path), "--subset", "s.npy", "--output", str(tmp_path / "out")]
    assert main(["reshard", *words, "--pack_length", "9"]) == 2
    assert "--tokenizer" in capsys.readouterr().err
