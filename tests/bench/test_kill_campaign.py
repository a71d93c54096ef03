"""A short campaign of kills; `docs/reliability.md` has the figures of a long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import kill_campaign


@pytest.mark.slow
def test_short_campaign_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "kills.json"
    words = ["--kills", "5", "--seed", "3", "--full_disk", "--out", str(out)]
    command = [sys.executable, str(Path(kill_campaign.__file__)), *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert figures["kills"] >= 5 and figures["results_lost"] == 0 and figures["faults"] == []
