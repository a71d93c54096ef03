"""What the benches share: CPU-seconds, memory, rows of `bench.json` with their bars."""

import json
import operator
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

Row = dict[str, Any]
Result = TypeVar("Result")

SIDES = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


def measured(function: Callable[[], Result]) -> tuple[Result, float, float]:
    """A result, the CPU-seconds that it took, and how far memory rose meanwhile (MiB, Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the last peak
    before = resident("VmRSS")
    result, seconds = timed(function)
    return result, seconds, resident("VmHWM") - before


def timed(function: Callable[[], Result]) -> tuple[Result, float]:
    """A result and the CPU-seconds that it took."""
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def resident(what: str) -> float:
    """Memory of this process in MiB: `VmRSS` now, `VmHWM` at most."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"{what}:\s+(\d+)", status)[1]) / 2**10  # type: ignore[index]


def peak_memory_mb() -> float:
    """Most memory so far in MiB: allocated on the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return round(resident("VmHWM"), 1)


def met(value: Any, bar: str) -> bool:
    """Whether a figure is on the right side of a bar such as `>= 7`."""
    side, limit = bar.split()
    return bool(SIDES[side](value, json.loads(limit)))


def keep(path: Path, row: Row, **bars: str) -> None:
    """Print a row with the bar beside each figure that has one, and put it into the file.

    Args:
        path: of the file; the row of that `what` and `data` is replaced.
        row: figures by name.
        bars: what some of them have to be: `times_faster=">= 7"`.
    """
    print(f"{row['what']}, {row['data']}")
    for name, value in row.items():
        if name not in ("what", "data"):
            bar = bars.get(name)
            verdict = "" if bar is None else f"{bar:<12}{'met' if met(value, bar) else 'MISSED'}"
            print(f"  {name:<32}{value!s:<26}{verdict}".rstrip(), flush=True)
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    rows = [r for r in rows if (r["what"], r["data"]) != (row["what"], row["data"])]
    kept = {**row, "bars": {name: [bar, met(row[name], bar)] for name, bar in bars.items()}}
    path.write_text(json.dumps([*rows, kept], indent=1) + "\n", encoding="utf-8")
