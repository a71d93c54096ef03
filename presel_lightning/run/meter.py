"""What a stage takes: seconds, devices and peak memory, over all the starts that it needed."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import torch

from presel_lightning.run.files import read_json, replacing
from presel_lightning.run.versions import versions

Part = dict[str, Any]
"""What one start has taken: seconds, device, devices, peak memory, versions."""

SAMPLE = 0.2
"""Seconds between two samples of the memory of this process."""
MB = 2**20


class Meter:
    """Measures a stage from its first start to its end, also where it was killed in between.

    A thread writes down every now and then what this start has taken so far, so that a start that is
    killed counts to within a second or a hundredth of its time. It samples the memory that this
    process holds, too: a stage has a peak of its own, which the operating system does not know.

    Args:
        journal: file of what all starts have taken; without one only this start is measured.
    """

    def __init__(self, journal: Path | None = None) -> None:
        self.journal = journal
        self.earlier: list[Part] = _read(journal)
        self._device: dict[str, Any] = {"device": "cpu", "devices": 1}
        self._clocks: dict[str, Callable[[], float]] = {}
        self._start = time.perf_counter()
        self._resident, self._kind = 0.0, ""
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Start; what came before is no part of the peak."""
        self._start = time.perf_counter()
        if torch.cuda.is_initialized():
            for device in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(device)
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop, and write down what this start has taken."""
        self._stop.set()
        self._thread.join()
        self._sample()
        self._write()

    def runs_on(self, device: str, devices: int) -> None:
        """Note what the stage is computed on, as soon as it is known."""
        self._device = {"device": device, "devices": devices}

    def clock(self, name: str, seconds: Callable[[], float]) -> None:
        """Measure a part of the stage under a name of its own.

        Args:
            name: of the fact.
            seconds: how long that part has taken in this start.
        """
        self._clocks = {**self._clocks, name: seconds}  # the thread may be reading the old ones

    def part(self) -> Part:
        """What this start has taken so far."""
        return {
            "seconds": round(time.perf_counter() - self._start, 3),
            **{name: round(seconds(), 3) for name, seconds in self._clocks.items()},
            **self._device,
            **self._memory(),
            "versions": versions(),
        }

    def facts(self) -> dict[str, Any]:
        """What all starts have taken; each of them too, where there were several.

        Returns:
            seconds, and those of each clock; device and devices of the last start; gpu_seconds
            (seconds times devices, where GPUs worked); peak_memory_mb and, in peak_memory_kind, what
            it is the peak of; versions of the last start; parts, one a start. The kinds are
            `gpu`, allocated on the first process's device; `sampled_rss`, memory that the first
            process holds, sampled every `SAMPLE` seconds; `process`, the most that it has held
            since its own start, where the system knows nothing else.
        """
        own = self.part()
        parts = [*self.earlier, own]
        names = ["seconds", *self._clocks]
        found = {name: round(sum(part.get(name, 0.0) for part in parts), 3) for name in names}
        gpu = [part for part in parts if part["device"] == "cuda"]
        # a start that computed on a GPU says more of the stage than one that did not come so far
        largest = max(gpu or parts, key=lambda part: float(part["peak_memory_mb"]))
        return {
            **own,
            **found,
            **{name: largest[name] for name in ("peak_memory_mb", "peak_memory_kind")},
            **({"gpu_seconds": round(sum(map(gpu_seconds, gpu)), 3)} if gpu else {}),
            **({"parts": parts} if self.earlier else {}),
        }

    def _memory(self) -> dict[str, Any]:
        if self._device["device"] == "cuda":
            peaks = map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count()))
            return {"peak_memory_mb": round(max(peaks) / MB, 1), "peak_memory_kind": "gpu"}
        return {"peak_memory_mb": round(self._resident, 1), "peak_memory_kind": self._kind}

    def _sample(self) -> None:
        now, self._kind = resident_mb()
        self._resident = max(self._resident, now)

    def _watch(self) -> None:
        due = 0.0
        while not self._stop.wait(SAMPLE):
            self._sample()
            if (elapsed := time.perf_counter() - self._start) >= due:
                self._write()
                due = 1.01 * elapsed + 1

    def _write(self) -> None:
        """Write the journal at once; without syncing, as little is lost with it."""
        if self.journal is None:
            return
        text = json.dumps([*self.earlier, self.part()])
        with suppress(OSError), replacing(self.journal, durable=False) as temporary:
            temporary.write_text(text, encoding="utf-8")


def resident_mb() -> tuple[float, str]:
    """Memory of this process, and what it is; see `Meter.facts`."""
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize() / MB, "sampled_rss"
    unit = MB if sys.platform == "darwin" else MB // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, "process"


def gpu_seconds(part: Part) -> float:
    """Seconds of all devices of a part together."""
    return float(part["seconds"] * part["devices"])


def _read(journal: Path | None) -> list[Part]:
    if journal is None or not journal.exists():
        return []
    with suppress(ValueError):  # cut off with the power
        found: list[Part] = read_json(journal)
        return found
    return []
