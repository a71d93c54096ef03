"""Commands in processes of their own, forked from one that has imported the libraries.

An import takes as long as a small fit, so it is done once a pytest process. Only the imports are
shared: a fork runs the real program from its first line on. What a start without them does is the
matter of `tests/run/test_interruption.py`.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = ("presel_lightning.cli.training", "presel_lightning.eval.report.report", "peft", "pandas")
"""What a fit imports before it ends."""


class Fork:
    """A running command, with the methods of `subprocess.Popen`.

    Args:
        arguments: of the program.
        log: file that its output is added to.
        environment: its environment.
        first: scripts that it runs before the program.
    """

    def __init__(
        self,
        arguments: list[str],
        log: Path,
        environment: dict[str, str],
        first: Sequence[Path] = (),
    ) -> None:
        self._log = log
        self._notes = Path(_notes().name) / str(next(_numbers))
        self._notes.touch()
        given = {"arguments": arguments, "log": str(log.absolute()), "environment": environment}
        place = {"folder": str(Path.cwd()), "notes": str(self._notes)}
        request = {**given, **place, "first": [*map(str, first)]}
        log.touch()
        requests = _server().stdin
        assert requests is not None
        requests.write(json.dumps(request) + "\n")
        requests.flush()
        while not (notes := self._read()):
            assert _server().poll() is None, "the process that forks has ended"
            time.sleep(0.005)
        self.pid = notes[0]

    def _read(self) -> list[int]:
        """Process id, and exit code once there is one; negative after a signal."""
        lines = self._notes.read_text().splitlines(keepends=True)
        return [int(line) for line in lines if line.endswith("\n")]

    def poll(self) -> int | None:
        """Exit code, if it has ended."""
        return notes[1] if len(notes := self._read()) > 1 else None

    def wait(self, timeout: float = 600) -> int:
        """Exit code, once it has ended."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            assert time.monotonic() < end, f"the command does not end: {self._log.read_text()}"
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


_numbers = count()


@cache
def _notes() -> TemporaryDirectory[str]:
    """What the commands of this process have become, a file each; it goes with the process."""
    return TemporaryDirectory(prefix="fork-")


@cache
def _server() -> subprocess.Popen[str]:
    """The process that forks; it ends with this one, at the end of its stdin."""
    return subprocess.Popen(
        [sys.executable, "-c", "from tests.forked import serve; serve()"],
        stdin=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        start_new_session=True,
    )


def serve() -> None:
    """Fork for every line of stdin; a fork of its own waits for the end of each command."""
    for name in IMPORTS:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if os.fork() == 0:
            _watch(json.loads(line))


def _watch(request: dict[str, Any]) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (child := os.fork()) == 0:
        _run(request)
    with Path(request["notes"]).open("a", buffering=1) as notes:
        notes.write(f"{child}\n")
        _, status = os.waitpid(child, 0)
        notes.write(f"{os.waitstatus_to_exitcode(status)}\n")
    os._exit(0)


def _run(request: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.chdir(request["folder"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        _read_rank()
        sys.argv = ["presel_lightning", *request["arguments"]]
        for script in request["first"]:
            runpy.run_path(script, run_name="__main__")
        runpy.run_module("presel_lightning", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # noqa: BLE001 - a fork ends here, whatever it met
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _read_rank() -> None:
    """Read from the environment what Lightning reads when it is imported."""
    from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

    rank_zero_only.rank = _get_rank() or 0  # type: ignore[attr-defined]
