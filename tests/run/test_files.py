from __future__ import annotations

from pathlib import Path

import pytest

from presel_lightning.run.files import read_json, replacing, replacing_folder, write_json
from presel_lightning.run.fingerprint import (
    PIECE,
    PIECES,
    digest_folder,
    digest_weights,
    fingerprint,
)
from presel_lightning.run.ledger import Ledger


def test_replacing_failed_write_keeps_only_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_replacing_folder_replaces_all_content(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "stale").write_text("x")
    with replacing_folder(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "new").write_text("y")
    assert not (target / "stale").exists()
    assert (target / "sub" / "new").read_text() == "y"


def test_write_json_nan_raises_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_fingerprint_does_not_depend_on_key_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_digest_folder_depends_on_content_not_path(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(b"w" * 100)
    assert digest_folder(tmp_path / "one") == digest_folder(tmp_path / "two")
    (tmp_path / "two" / "weights").write_bytes(b"w" * 99 + b"v")
    assert digest_folder(tmp_path / "one") != digest_folder(tmp_path / "two")


def test_digest_weights_detects_changes_across_a_large_file(tmp_path: Path) -> None:
    content = bytearray(PIECES * PIECE * 2)
    names = set()
    for changed in (None, 0, len(content) // 2, len(content) - 1):
        if changed is not None:
            content[changed] ^= 1
        (tmp_path / "weights").write_bytes(content)
        names.add(digest_weights(tmp_path / "weights"))
    assert len(names) >= 3  # the middle may fall between two pieces


def test_ledger_is_done_needs_fingerprint_and_artifact(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run.json")
    artifact = tmp_path / "made"
    artifact.touch()
    ledger.update(seed=3)
    ledger.record("pool", status="done", fingerprint="f")
    assert ledger.is_done("pool", "f", [artifact])
    assert not ledger.is_done("pool", "g", [artifact])
    assert not ledger.is_done("split", "f", [])
    artifact.unlink()
    assert not ledger.is_done("pool", "f", [artifact])
    assert read_json(tmp_path / "run.json")["seed"] == 3
