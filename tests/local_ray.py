"""Ray, as a command starts it on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.optional import require

PATIENCE = 300.0
"""Seconds that its processes may take to start; Ray itself gives up after 30."""
SETTINGS = {
    "RAY_gcs_server_port_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_memory_monitor_refresh_ms": "0",  # it ends tasks where others take the memory
}


@contextmanager
def local_ray(patch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let a command start a Ray of its own, however busy the machine is, and end it afterwards."""
    ray = require("ray")
    from ray._private import services

    root = str(Path(__file__).parents[1])
    paths = {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    for name, value in {**SETTINGS, **paths}.items():
        patch.setenv(name, value)
    patch.delenv("RAY_ADDRESS", raising=False)
    known: Any = services.get_node

    def node(*place: str) -> object:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return known(*place)
            except RuntimeError:  # it is not registered yet
                if time.monotonic() > end:
                    raise
            time.sleep(0.5)

    patch.setattr(services, "get_node", node)
    try:
        yield ray
    finally:
        ray.shutdown()
