"""Run a command with every key of the parser set to values it was not made for.

Each (key, value) runs in a fork of one warm process, on a pool of 18 images. Printed: how many
pairs ran, and each that ended in a traceback, did not end, or was refused by a message that does not
name its key.

    python -m tests.bench.option_sweep [--only PREFIX]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

from jsonargparse import ArgumentParser

from presel_lightning.cli import training
from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.main import main
from presel_lightning.compare.cells import GridKeys
from presel_lightning.quickstart.world import generate
from tests.cli.keys import VALUES, every_key, names_key, refusal, set_to

ANNOTATION_FILE = "presel_lightning.eval.benchmarks.annotation_file.AnnotationFile"
SECONDS = 240
MEMORY = 12 << 30


def command_of(key: str) -> str:
    """The command that reads a key; `select` where it does, as it is the faster one."""
    head = key.partition(".")[0]
    if head in {each.name for each in fields(GridKeys)}:
        return "compare"
    if head in ("check_records", "check_images", "probe", "throughput"):
        return "check"
    if head == "checkpoint":
        return "evaluate"
    in_select = ("seed_everything", "trainer", "model", "data", "selector", "annotator", "threads")
    return "select" if head in in_select or key.startswith("stages.losses") else "fit"


def base(command: str, folder: Path, out: Path) -> list[str]:
    """A whole command on the small pool; what is under test comes after it."""
    benchmark = f"[{{class_path: {ANNOTATION_FILE}, init_args: {{path: {folder}/test.json}}}}]"
    compare = ["--seeds", "0", "--selectors", "Random", "--workers", "1"]
    return [
        *[command, "--config", "quickstart.yaml", "--out", str(out)],
        *["--data.annotations", str(folder / "train.json")],
        *["--data.reference", "4", "--data.budget", "0.5", "--data.batch_size", "4"],
        *["--trainer.max_epochs", "1", "--baselines", "untrained", "--benchmarks", benchmark],
        *(compare if command == "compare" else []),
    ]


def outcome(arguments: list[str], log: Path) -> int:
    """Run a command in a fork, with limits; return its exit code, 99 after a traceback."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.alarm(SECONDS)
    code = 99
    with log.open("w") as handle, redirect_stdout(io.StringIO()), redirect_stderr(handle):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = 98 if stop.code not in (0, 2) else int(stop.code)
        except BaseException:  # noqa: BLE001 - each kind is a finding
            traceback.print_exc(file=handle)
    os._exit(code)


def in_any_order(only: str) -> list[tuple[str, list[str]]]:
    """The pairs in a fixed random order, so that a part of them stands for all."""
    found = list(pairs(only))
    random.Random(0).shuffle(found)
    return found


def tried(key: str, parser: ArgumentParser, command: list[str], log: Path) -> tuple[str, str]:
    """What becomes of a command, and its last line; it runs where the parser accepts it."""
    refused = refusal(parser, find_configs(command[1:])[0])
    if refused is not None:
        return "refused" if names_key(key, refused) else "refused, key not named", refused
    code = outcome(command, log)
    error = log.read_text(errors="replace")
    return verdict(key, code, error), (error.strip().splitlines() or [""])[-1]


def verdict(key: str, code: int, error: str) -> str:
    """What became of a pair."""
    if code < 0:
        return "no end"
    if code in (98, 99) or "Traceback" in error:
        return "traceback"
    if code in (0, 3):
        return "works"
    lines = [line for line in error.splitlines() if line.startswith("presel_lightning: ")]
    named = len(lines) == 1 and names_key(key, lines[0])
    return f"exit {code}" if named else f"exit {code}, key not named"


def pairs(only: str) -> Iterator[tuple[str, list[str]]]:
    """Every key with the options that set it to each value."""
    for key, options in every_key():
        if key.startswith(only):
            yield from ((key, set_to(options, value)) for value in VALUES)


def sweep(only: str) -> Counter[str]:
    """Run all pairs; print those that end badly."""
    found: Counter[str] = Counter()
    parser = training.parse("fit", ["--data.annotations", "x"]).parser
    with TemporaryDirectory() as place:
        folder = Path(place)
        generate(folder / "pool", seed=7, sizes={"colour": 10, "shape": 8}, test_per_task=1)
        os.chdir(folder)
        for number, (key, options) in enumerate(in_any_order(only)):
            command = [*base(command_of(key), folder / "pool", folder / f"out{number}"), *options]
            start = time.perf_counter()
            result, line = tried(key, parser, command, folder / "log")
            found[result] += 1
            took = round(time.perf_counter() - start, 1)
            print(json.dumps([result, options[-1][:100], took, line[:300]]), flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="keys that begin so")
    print(dict(sweep(parser.parse_args().only)), file=sys.stderr)
