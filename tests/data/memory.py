"""How far a script's peak memory rises, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import re, sys
from pathlib import Path

def peak():
    # not `ru_maxrss`, which begins at what the process had that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**10

{prepare}
before = peak()
n = {work}
print(n, peak() - before)
"""


def risen(prepare: str, work: str, *arguments: Path) -> tuple[int, float]:
    """Run Python in a process of its own, whose arguments are `sys.argv[1:]`.

    Args:
        prepare: lines that come before; their memory is not counted.
        work: an expression that is an integer.
        arguments: files.

    Returns:
        The integer, and by how many MiB the peak of the process has risen (Linux).
    """
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(prepare=prepare, work=work), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    n, rise = done.stdout.split()
    return int(n), float(rise)
