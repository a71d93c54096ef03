"""What a person sees while a run goes on; bars are shown on a terminal only."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")

HUSHED = (
    "Couldn't infer the batch indices",  # a pass over shards writes blocks by their own number
    # PEFT still asks for a property that transformers 5 has renamed
    ".*is_gradient_checkpointing.*",
    # the arguments are the program's own, put in order
    "LightningCLI's args parameter.*",
    # Lightning's own use of torch
    ".*LeafSpec.*",
    # a continued fit finds what it left
    ".*Experiment logs directory.*",
    ".*Checkpoint directory.*",
    # it returns every row, as its test shows
    ".*custom batch sampler `BlockSampler`.*",
    # one process may well decode images fast enough
    ".*does not have many workers.*",
)
"""Warnings that tell a user nothing."""

# kernels that few CPUs could use; at import, as a spawned process loads models before `quiet`
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit_forward" not in str(record.msg)
)

console = Console(highlight=False)


def show_bars() -> bool:
    """Whether progress bars make sense here."""
    return console.is_terminal and not console.quiet


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        """The speed, once there is one."""
        return Text("" if task.speed is None else f"{task.speed:.0f}/s")


def track(
    items: Iterable[T], what: str, total: int | None, *, remaining: bool = True
) -> Iterator[T]:
    """Pass items on, on a terminal with a bar that shows rate and time left.

    Args:
        items: what is passed on.
        what: label of the bar.
        total: number of items.
        remaining: whether rate and time left are shown, which suppose that all items take as long.
    """
    if not show_bars():
        yield from items
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([_Rate()] if remaining else []),
        TimeElapsedColumn(),
        *([TimeRemainingColumn()] if remaining else []),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(items, total=total, description=what)


def seconds(value: float) -> str:
    """A duration as a person says it: `3.2 s`, `4 min 10 s`, `2 h 5 min`."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def roughly(value: float) -> str:
    """Format an estimate of seconds no finer than it can be: `25 s`, `12 min`, `3 h 40 min`, `2 d 5 h`."""
    if value < 57.5:
        return f"{max(1, round(value / 5)) * 5} s"
    minutes = max(1, round(value / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(round(minutes / 5) * 5, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, hours = divmod(round(minutes / 60), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def size(n_bytes: float) -> str:
    """Format a number of bytes: `12 kB`, `3.1 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000:
            break
        n_bytes /= 1000
    else:
        unit = "PB"
    return f"{n_bytes:.0f} {unit}" if n_bytes >= 10 or unit == "B" else f"{n_bytes:.1f} {unit}"


def quiet() -> None:
    """Silence what a user can do nothing about; call it before any model is loaded."""
    # both set levels and filters of their own when they are imported
    import lightning.pytorch
    from transformers.utils import logging as transformers_logging

    for name in (lightning.pytorch.__name__, "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # its retries; their outcome is reported once, at the end
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for message in HUSHED:
        warnings.filterwarnings("ignore", message)
    ignore_image_warnings()


def ignore_image_warnings() -> None:
    """Silence what Pillow says of files that it reads all the same, for the whole process.

    Called when a process starts: filters are shared by its threads, so they are set once and never
    back. What cannot be read is a problem of the pool, and is listed there.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
