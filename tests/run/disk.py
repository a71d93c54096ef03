"""A small file system of its own, to be filled or made read-only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


class Disk:
    """A tmpfs.

    Args:
        path: an empty folder.
        size: as `mount` takes it.
    """

    def __init__(self, path: Path, size: str) -> None:
        self.path = path
        done = self._call("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")

    def set(self, options: str) -> None:
        """Change its size (`size=4m`), or whether it can be written (`ro`, `rw`)."""
        done = self._call("mount", "-o", f"remount,{options}", str(self.path))
        assert done.returncode == 0, done.stderr

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.path / "filler").open("wb", buffering=0) as handle:
            os.posix_fallocate(handle.fileno(), 0, self.free())

    def free(self) -> int:
        """Free bytes."""
        facts = os.statvfs(self.path)
        return facts.f_bavail * facts.f_frsize

    def unmount(self) -> None:
        """Take it away, open files or not."""
        self._call("umount", "--lazy", str(self.path))

    def _call(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False)
