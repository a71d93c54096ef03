"""Images and captions of shards, read where they lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from presel_lightning.filters.faults import Fault, Listed
from presel_lightning.filters.uids import as_hex
from presel_lightning.shards.rows import read_sample, shard_rows
from tests.shards.tars import pool, sample, write_tar

UID = "00112233445566778899aabbccddeeff"


def test_rows_give_image_and_caption_of_each_sample(tmp_path: Path) -> None:
    known = pool(tmp_path, shards=1, size=5)
    path = tmp_path / "00000000.tar"
    rows = shard_rows(path, Listed("stop"))
    assert as_hex(rows["uid"]) == list(known)
    for row, (uid, (key, files)) in zip(rows, known.items(), strict=True):
        assert read_sample(path, row) == (uid, files["jpg"], key)


@pytest.mark.parametrize(
    ("record", "caption"),
    [({"caption": " a dog "}, "a dog"), ({"text": "a cat"}, "a cat"), ({"caption": None}, "")],
)
def test_caption_without_a_text_file_is_that_of_the_json(
    record: dict[str, str | None], caption: str, tmp_path: Path
) -> None:
    path = tmp_path / "0.tar"
    files = {"JPG": b"x", "json": json.dumps({"uid": UID, **record}).encode()}
    write_tar(path, [("a", files)])
    (row,) = shard_rows(path, Listed("stop"))
    assert read_sample(path, row) == (UID, b"x", caption)


def test_what_cannot_be_read_is_listed(tmp_path: Path) -> None:
    whole, cut = tmp_path / "0.tar", tmp_path / "1.tar"
    write_tar(
        whole,
        [sample(UID, "a"), sample(None, "b"), ("c", {"json": b'{"uid": "%s"}' % UID.encode()})],
    )
    cut.write_bytes(whole.read_bytes()[:2000])
    listed = Listed("skip")
    assert len(shard_rows(whole, listed)) == 1
    assert [problem for _, problem, _ in listed.found] == ["no_uid", "no_image"]
    for path in (cut, tmp_path / "missing.tar"):
        broken = Listed("skip")
        assert len(shard_rows(path, broken)) == 0
        assert [problem for _, problem, _ in broken.found] == ["corrupt_tar"]
        with pytest.raises(Fault, match="corrupt tar"):
            shard_rows(path, Listed("stop"))
