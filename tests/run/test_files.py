from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from presel_lightning.run import fingerprint as fingerprints
from presel_lightning.run.files import read_json, replacing, replacing_folder, write_json
from presel_lightning.run.fingerprint import LARGE, digest_folder, digest_weights, fingerprint
from presel_lightning.run.ledger import Ledger
from presel_lightning.run.lock import enter, leave


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


def test_replacing_gives_restricted_files_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; import numpy as np; os.umask(0o027); "
        "from safetensors.numpy import save_file; "
        "from presel_lightning.run.files import replacing, replacing_folder\n"
        "folder, values = Path(sys.argv[1]), {'x': np.ones(1)}\n"
        "with replacing(folder / 'a') as path: save_file(values, path)\n"
        "with replacing_folder(folder / 'b') as path: save_file(values, path / 'a')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "b", "b/a")]
    assert modes == [0o640, 0o750, 0o640]


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


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose digest is remembered, in a cache of its own."""
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.safetensors"
    header = json.dumps({"a": {"dtype": "U8", "shape": [LARGE], "data_offsets": [0, LARGE]}})
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(LARGE))
    return path


def flip(path: Path, place: int) -> None:
    """Change one byte, and the size and mtime not at all."""
    facts = path.stat()
    with path.open("r+b") as handle:
        handle.seek(place)
        byte = handle.read(1)[0]
        handle.seek(place)
        handle.write(bytes([byte ^ 1]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(8, LARGE))
def test_digest_weights_changes_with_any_byte(weights: Path, place: int) -> None:
    """Also where size and mtime are as before: the time of change is not."""
    known = digest_weights(weights)
    flip(weights, place)
    changed = digest_weights(weights)
    flip(weights, place)
    assert changed != known == digest_weights(weights)


def test_digest_weights_reads_an_unchanged_file_once(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "SETTLED", 0.0)
    known = digest_weights(weights)
    (note,) = (weights.parent / "cache" / "digests").glob("*.json")
    write_json(note, {**read_json(note), "digest": "remembered"})
    assert digest_weights(weights) == "remembered"
    weights.rename(weights.with_name("moved"))
    assert digest_weights(weights.with_name("moved")) == known


def test_digest_weights_without_a_cache_still_names_the_file(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = digest_weights(weights)
    (weights.parent / "file").touch()
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(weights.parent / "file"))
    assert digest_weights(weights) == known


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


KILLED = """
import os, signal, sys
from pathlib import Path
from presel_lightning.run.files import replacing_folder
replace, moves = os.replace, []
def once(*names):
    if moves:
        os.kill(os.getpid(), signal.SIGKILL)
    moves.append(names)
    replace(*names)
os.replace = once
with replacing_folder(Path(sys.argv[1])) as folder:
    (folder / "new").touch()
"""
"""Killed when the old folder is moved away, and the new one is not there yet."""


def test_folder_whose_replacement_was_killed_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "signals" / "features"
    target.mkdir(parents=True)
    (target / "old").touch()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL and not target.exists()
    enter(tmp_path)
    leave()
    assert (target / "old").exists() and [target] == list(target.parent.iterdir())
