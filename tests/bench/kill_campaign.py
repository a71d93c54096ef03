"""Kill a whole `fit` at random moments, let it go on, and compare with one that was left alone.

    PYTHONPATH=. python tests/bench/kill_campaign.py --kills 300 --seed 0 --out kills.json --full_disk

A run is a tiny `fit` with everything in it: pool, reference fit, losses, features, selection, final
fit, benchmark, report. It is ended by a signal, or finds its disk full, at a moment drawn over the whole
run; a third of the moments is drawn inside the write of a checkpoint, model or block instead. Then the
same command starts again and is ended again, until one start comes to its end. What lies in the run
folder then must be that of the undisturbed run, byte for byte (`RESULTS`).

A start must end with the signal's code (137, 143, 130), with 2 on a full disk, or with 0 where it was
done before; with one line on stderr where it can print one, and never with a traceback. (Before the
program's own first line a signal ends the fork without a word.)

Most of a start is the import of torch and transformers. So they are imported once, here, and every
start is a fork of this process that runs the real program (`presel_lightning.__main__.run`) from its
first line on: only the imports are shared. Signals during imports are the matter of
`tests/run/test_interruption.py`.

The run folder is on a tmpfs of its own (a file system other than that of temporary files) where one may
be mounted, else below `--folder`; without its own there is no full disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

RESULTS = (
    "selection/selection.parquet",
    "selection/selected.json",
    "signals/paired_loss.parquet",
    "signals/features/features.npy",
    "models/reference/adapter_model.safetensors",
    "models/final/adapter_model.safetensors",
    "benchmark.json",
)
FULL = "FULL DISK"
LINE = "stopped; the same command continues"
STARTS = 12
"""Starts of one run that are ended, at most."""
LIMIT = 600.0
"""Seconds after which a start counts as hung."""
DISK = "64m"


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--signals", nargs="+", default=["KILL", "TERM", "INT"])
    parser.add_argument("--full_disk", action="store_true", help="fill the disk, too (as root)")
    parser.add_argument(
        "--folder", type=Path, default=Path("/dev/shm"), help="where no mount may be"
    )
    parser.add_argument(
        "--minutes", type=float, default=60, help="begin no further run after these"
    )
    return parser.parse_args()


@contextmanager
def disk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """A folder on a file system of its own, and whether it is one."""
    with tempfile.TemporaryDirectory(
        prefix="kills-", dir=folder if folder.is_dir() else None
    ) as name:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", name]
        own = subprocess.run(mount, check=False, capture_output=True).returncode == 0
        try:
            yield Path(name), own
        finally:
            if own:
                subprocess.run(["umount", "--lazy", name], check=False)


def fit_arguments(pool: Path, out: Path) -> list[str]:
    """The command that is killed."""
    benchmark = "presel_lightning.eval.benchmarks.annotation_file.AnnotationFile"
    score = f"{{class_path: {benchmark}, init_args: {{path: {pool / 'test.json'}, name: tiny}}}}"
    words = {
        "data.annotations": pool / "train.json",
        "data.reference": 6,
        "data.budget": 12,
        "data.block_size": 4,
        "data.batch_size": 4,
        "trainer.max_epochs": 2,
        "checkpoint_every": 1,
        "baselines": "[]",
        "benchmarks": f"[{score}]",
        "out": out,
    }
    pairs = [(f"--{key}", str(value)) for key, value in words.items()]
    return ["fit", "--config", "quickstart.yaml", *(word for pair in pairs for word in pair)]


def forked(work: Callable[[], object], log: Path) -> int:
    """Run something in a process of its own, which prints to a file; its process id."""
    sys.stdout.flush()
    log.write_bytes(b"")  # here: the child may be ended before its first line
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if child := os.fork():
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return child
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # else a KeyboardInterrupt wherever this is
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.setsid()
        handle = os.open(log, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(handle, stream)
        work()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # noqa: BLE001 - a fork ends here, whatever it met
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def program(arguments: list[str]) -> None:
    """What `python -m presel_lightning` does."""
    from presel_lightning.__main__ import run

    sys.argv = ["presel_lightning", *arguments]
    run()


def ended(child: int, limit: float = LIMIT) -> int | None:
    """Exit code of a child as a shell has it; None where it does not end."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code
        time.sleep(0.002)
    return None


class Campaign:
    """Runs that are killed, and what became of them.

    Args:
        options: of the command line.
        home: folder of the pool and of the undisturbed run.
        place: folder of the runs that are killed.
        own: whether `place` is a file system that may be filled.
    """

    def __init__(self, options: argparse.Namespace, home: Path, place: Path, own: bool) -> None:
        self.random = random.Random(options.seed)
        self.pool, self.known, self.log = home / "pool", home / "known", home / "log"
        self.place, self.kinds = place, list(options.signals)
        if options.full_disk and own:
            self.kinds.append(FULL)
        self.seconds = 0.0
        self.kills: Counter[tuple[str, str]] = Counter()
        self.writing: Counter[str] = Counter()
        self.runs = self.lost = 0
        self.faults: list[str] = []

    def prepare(self) -> None:
        """Make the pool, and the undisturbed run, whose time bounds the moments."""
        from presel_lightning.quickstart.world import generate

        sizes = {"colour": 10, "shape": 8, "count": 8}
        child = forked(lambda: generate(self.pool, seed=7, sizes=sizes, test_per_task=2), self.log)
        assert ended(child) == 0, self.log.read_text()
        for name in ("first", "known"):  # the first start may fill caches
            out = self.known.with_name(name)
            begin = time.monotonic()
            child = forked(lambda out=out: program(fit_arguments(self.pool, out)), self.log)  # type: ignore[misc]
            assert ended(child) == 0, self.log.read_text()
            self.seconds = time.monotonic() - begin

    def run(self) -> None:
        """Kill one run until a start comes to its end, and compare what it left."""
        self.runs += 1
        out = self.place / "run"
        for start in range(STARTS + 1):
            kind = self.random.choice(self.kinds) if start < STARTS else ""
            if self.start(out, start, kind):
                break
        for name in RESULTS:
            found = out / name
            if not found.is_file() or found.read_bytes() != (self.known / name).read_bytes():
                self.lost += 1
                self.fault(f"{name} differs from the undisturbed run")
        self.check_seconds(out)
        shutil.rmtree(out, ignore_errors=True)

    def start(self, out: Path, number: int, kind: str) -> bool:
        """Start the command once, and end it in some way; whether it came to its end.

        Args:
            out: the run folder.
            number: of the start in this run.
            kind: name of a signal, `FULL`, or nothing.
        """
        child = forked(lambda: program(fit_arguments(self.pool, out)), self.log)
        # a start that finds stages done has less left to do
        moment = self.random.uniform(0, self.seconds * 0.9**number)
        code = self.wait_for_moment(child, out, moment) if kind else ended(child)
        if code is None and kind:
            stage, parts = stage_of(out), parts_of(out)
            code = self.end(child, kind)
            if code != 0:
                self.kills[kind, stage] += 1
                self.writing[kind] += bool(parts)
        self.judge(kind, code, ended=ledger_of(out).get("state") == "done")
        return code == 0

    def wait_for_moment(self, child: int, out: Path, moment: float) -> int | None:
        """Wait for a moment, or for the next write of a file then; exit code if it ended before."""
        begin = time.monotonic()
        in_write = self.random.random() < 1 / 3
        while (now := time.monotonic() - begin) < moment or in_write:
            if now >= moment and (parts_of(out) or now > moment + self.seconds):
                break
            if (code := ended(child, 0.001)) is not None:
                return code
        return None

    def end(self, child: int, kind: str) -> int | None:
        """End a start by a signal, or by a disk that is full until it has ended."""
        if kind != FULL:
            with suppress(ProcessLookupError):
                os.kill(child, getattr(signal, f"SIG{kind}"))
            return ended(child)
        ballast = self.place / "ballast"
        free = os.statvfs(self.place)
        size = free.f_bavail * free.f_frsize - self.random.choice([0, 1 << 12, 1 << 16, 1 << 20])
        with ballast.open("wb") as handle, suppress(OSError):
            os.posix_fallocate(handle.fileno(), 0, max(1, size))
        try:
            return ended(child)
        finally:
            ballast.unlink()

    def judge(self, kind: str, code: int | None, *, ended: bool = False) -> None:
        """Note a start that did not end as it must.

        Args:
            kind: of its end.
            code: its exit code.
            ended: whether its run had ended; a signal from then on ends it without a word.
        """
        text = self.log.read_bytes().decode(errors="replace")
        expected = {"": 0, FULL: 2}.get(kind)
        if expected is None:
            expected = 128 + getattr(signal, f"SIG{kind}")
        allowed = (0, 1) if ended else (1,)
        if code is None:
            self.fault(f"{kind}: does not end")
        elif code not in (0, expected):
            self.fault(f"{kind}: exit code {code}, not {expected}: {text[-2000:]}")
        elif "Traceback" in text or "Exception ignored" in text:
            self.fault(f"{kind}: a traceback: {text[-2000:]}")
        elif kind in ("TERM", "INT") and code and text and text.count(LINE) not in allowed:
            self.fault(f"{kind}: not one line: {text[-2000:]}")

    def check_seconds(self, out: Path) -> None:
        """Note a stage whose parts do not add up to its time."""
        for name, stage in ledger_of(out)["stages"].items():
            parts = [part["seconds"] for part in stage.get("parts", [])]
            if parts and abs(stage["seconds"] - sum(parts)) > 0.01:
                self.fault(f"{name}: {stage['seconds']} s in {parts}")

    def fault(self, what: str) -> None:
        """Note what is not as promised, and show it."""
        self.faults.append(what)
        print(f"run {self.runs}: {what}", flush=True)

    def figures(self) -> dict[str, Any]:
        """What is written down."""
        stages = sorted({stage for _, stage in self.kills})
        return {
            "kills": self.kills.total(),
            "runs": self.runs,
            "results_lost": self.lost,
            "faults": self.faults,
            "seconds_undisturbed": round(self.seconds, 2),
            "by_kind": {
                kind: {s: self.kills[kind, s] for s in stages if self.kills[kind, s]}
                for kind in self.kinds
            },
            "in_a_write": dict(self.writing),
        }


def ledger_of(out: Path) -> dict[str, Any]:
    """The ledger of a run, as far as it has begun."""
    with suppress(OSError, ValueError):
        ledger: dict[str, Any] = json.loads((out / "run.json").read_text())
        return ledger
    return {"stages": {}}


def stage_of(out: Path) -> str:
    """The stage that a run is in."""
    stages = ledger_of(out)["stages"]
    running = [name for name, stage in stages.items() if stage.get("status") == "running"]
    return running[-1] if running else ("between stages" if stages else "before the first stage")


def parts_of(out: Path) -> list[str]:
    """Files and folders that are being written."""
    places = (".*.part", "*/.*.part", "work/*/.*.part")
    return [path.name for place in places for path in out.glob(place)]


def show(figures: dict[str, Any]) -> None:
    """Print where the kills fell."""
    stages = sorted({stage for found in figures["by_kind"].values() for stage in found})
    print("stage".ljust(24), *(kind.rjust(10) for kind in figures["by_kind"]))
    for stage in stages:
        counts = (found.get(stage, 0) for found in figures["by_kind"].values())
        print(stage.ljust(24), *(str(count).rjust(10) for count in counts))
    print(
        f"{figures['kills']} kills in {figures['runs']} runs, {sum(figures['in_a_write'].values())} "
        f"of them inside a write; {figures['results_lost']} results lost, "
        f"{len(figures['faults'])} other faults or losses listed"
    )


def main() -> int:
    """Run the campaign; 0 where nothing was lost and every start ended as it must."""
    given = options()
    import peft  # noqa: F401 - shared by all starts, with what follows

    import presel_lightning.__main__
    import presel_lightning.cli.training  # noqa: F401

    end = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory(prefix="kills-") as home, disk(given.folder) as (place, own):
        campaign = Campaign(given, Path(home), place, own)
        campaign.prepare()
        while campaign.kills.total() < given.kills and time.monotonic() < end:
            campaign.run()
            print(f"{campaign.kills.total()} kills, {campaign.runs} runs", flush=True)
    figures = {"seed": given.seed, "own_file_system": own, **campaign.figures()}
    given.out.write_text(json.dumps(figures, indent=2) + "\n")
    show(figures)
    return 1 if figures["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
