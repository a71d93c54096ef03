from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from presel_lightning.models import describe_checkpoint

COMMITS = {"some/body": "0" * 40, "any/body": "1" * 40}


def test_describe_checkpoint_names_a_hub_id_by_its_cached_commit(tmp_path: Path) -> None:
    """As a process without a network does; its folder in the hub's cache has the same name."""
    for name, commit in COMMITS.items():
        repository = tmp_path / f"models--{name.replace('/', '--')}"
        for folder in (repository / "refs", snapshot := repository / "snapshots" / commit):
            folder.mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        (snapshot / "config.json").write_text("{}")
        assert describe_checkpoint(str(snapshot)) == commit
    names = [*COMMITS, "no/body"]
    code = (
        "from presel_lightning.models import describe_checkpoint\n"
        f"print(*map(describe_checkpoint, {names!r}))"
    )
    offline = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **offline}, check=True, capture_output=True
    )
    assert run.stdout.decode().split() == [*COMMITS.values(), "no/body"]
