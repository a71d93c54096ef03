"""What the benches share: CPU-seconds, memory, rows of `bench.json`."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Row = dict[str, object]
Result = TypeVar("Result")


def measured(function: Callable[[], Result]) -> tuple[Result, float, float]:
    """A result, the CPU-seconds that it took, and how far memory rose meanwhile (MiB, Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the last peak
    before = resident("VmRSS")
    start = time.process_time()
    result = function()
    return result, time.process_time() - start, resident("VmHWM") - before


def resident(what: str) -> float:
    """Memory of this process in MiB: `VmRSS` now, `VmHWM` at most."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"{what}:\s+(\d+)", status)[1]) / 2**10  # type: ignore[index]


def keep(path: Path, row: Row) -> None:
    """Print a row, and put it in the place of the one of that name in the file."""
    print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    rows = [r for r in rows if (r["what"], r["data"]) != (row["what"], row["data"])]
    path.write_text(json.dumps([*rows, row], indent=1) + "\n", encoding="utf-8")
