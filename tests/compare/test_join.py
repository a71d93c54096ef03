from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from presel_lightning.compare.join import join, link
from presel_lightning.run.files import replacing, replacing_folder
from presel_lightning.run.ledger import Ledger

MADE = {"features": ("signals/features",), "losses": ("signals/losses.txt",), "absent": ("x",)}


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "parent"
    (folder / "signals" / "features").mkdir(parents=True)
    (folder / "signals" / "features" / "a.txt").write_text("a")
    (folder / "signals" / "losses.txt").write_text("b")
    ledger = Ledger(folder / "run.json")
    ledger.record("features", status="done", fingerprint="f", seconds=2.0)
    ledger.record("losses", status="running", fingerprint="l")
    return folder


def test_join_links_finished_stages_with_their_records(parent: Path) -> None:
    folder = parent.parent / "cells" / "one"
    assert join(folder, parent, MADE) == {"features": "f"}
    assert (folder / "signals" / "features" / "a.txt").read_text() == "a"
    assert not (folder / "signals" / "losses.txt").exists()
    stages = Ledger(folder / "run.json").read()["stages"]
    assert stages == {"features": {"status": "done", "fingerprint": "f", "seconds": 2.0}}


def test_join_links_stay_valid_after_a_move(parent: Path) -> None:
    join(parent.parent / "cells" / "one", parent, MADE)
    moved = parent.parent.rename(parent.parent.with_name("elsewhere"))
    assert (moved / "cells" / "one" / "signals" / "features" / "a.txt").read_text() == "a"
    assert not os.path.isabs(os.readlink(moved / "cells" / "one" / "signals" / "features"))


def test_join_second_call_changes_nothing(parent: Path) -> None:
    folder = parent.parent / "cells" / "one"
    join(folder, parent, MADE)
    before = (folder / "run.json").stat(), (folder / "signals" / "features").lstat()
    join(folder, parent, MADE)
    after = (folder / "run.json").stat(), (folder / "signals" / "features").lstat()
    assert before == after


def test_link_replaces_what_a_killed_start_of_this_number_left(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / f".place.{os.getpid()}.link").symlink_to("elsewhere")
    link(tmp_path / "place", tmp_path / "target")
    assert os.readlink(tmp_path / "place") == "target" and len(list(tmp_path.iterdir())) == 2


def test_join_recomputed_parent_stage_is_linked_again(parent: Path) -> None:
    folder = parent.parent / "cells" / "one"
    join(folder, parent, MADE)
    Ledger(parent / "run.json").record("features", status="done", fingerprint="g")
    Ledger(parent / "run.json").record("losses", status="done", fingerprint="l")
    assert join(folder, parent, MADE) == {"features": "g", "losses": "l"}
    assert json.loads((folder / "run.json").read_text())["stages"]["features"]["fingerprint"] == "g"


def test_writing_into_a_cell_does_not_change_the_parent(parent: Path) -> None:
    """As when a stage of a cell turns out to be stale."""
    folder = parent.parent / "cells" / "one"
    Ledger(parent / "run.json").record("losses", status="done", fingerprint="l")
    join(folder, parent, MADE)
    with replacing_folder(folder / "signals" / "features") as new:
        (new / "a.txt").write_text("mine")
    with replacing(folder / "signals" / "losses.txt") as path:
        path.write_text("mine")
    assert (folder / "signals" / "features" / "a.txt").read_text() == "mine"
    assert (folder / "signals" / "losses.txt").read_text() == "mine"
    assert (parent / "signals" / "features" / "a.txt").read_text() == "a"
    assert (parent / "signals" / "losses.txt").read_text() == "b"


def test_link_replaces_an_existing_link(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        link(tmp_path / "deep" / "er" / "place", tmp_path / name)
    assert (tmp_path / "deep" / "er" / "place").read_text() == "b"
    assert os.listdir(tmp_path / "deep" / "er") == ["place"]
