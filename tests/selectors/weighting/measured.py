"""Tasks of made-up sizes with made-up losses, for the tests of the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from presel_lightning.selectors.weighting import TaskFacts
from presel_lightning.signals import HeldOutLoss, PairedLoss, Signals, TextLoss
from tests.selectors.pools import Case, make_pool

SIZES = {"easy": 40, "hard": 20, "noisy": 12}
TASKS = tuple(SIZES)
START = {"easy": [0.9, 1.1, 1.0, 1.2], "hard": [3.0, 3.4], "noisy": [2.0, 2.2]}
HELD_OUT = {"easy": [0.1, 0.3, 0.2, 0.05], "hard": [2.5, 2.7], "noisy": [2.1, 2.3]}
CORRECT = {"easy": [1, 1, 1, 0], "hard": [0, 0], "noisy": [0, 1]}
IRS = {"easy": [0.01, 0.03, 0.02, 0.02], "hard": [0.5, 0.7], "noisy": [1.4, 1.0]}
"""As many as each task has reference samples."""

Values = Mapping[str, Sequence[float]]


def facts_of(
    folder: Path,
    *,
    start: Values = START,
    held_out: Values = HELD_OUT,
    correct: Values = CORRECT,
    irs: Values = IRS,
) -> TaskFacts:
    """A pool of `SIZES` whose first images of each task are the reference split."""
    pool = make_pool(folder / "pool", Case(SIZES, reference=0))
    reference = [f"{task}{i}" for task in TASKS for i in range(len(held_out[task]))]
    pool = pool.with_reference(pool.uid[np.isin(pool.id, reference)])
    signals = Signals(folder / "signals")
    rows = np.flatnonzero(pool.reference)
    place = [(str(pool.task[r]), int(str(pool.id[r])[len(pool.task[r]) :])) for r in rows]

    def column(values: Values) -> list[float]:
        return [float(values[task][number]) for task, number in place]

    def table(loss: Values) -> pa.Table:
        shared = {"uid": pool.uid[rows].tolist(), "task": pool.task[rows].tolist()}
        return pa.table(
            {
                **shared,
                "loss_with_question": column(loss),
                "loss_without_question": [4.0] * len(rows),
                "n_tokens": [2] * len(rows),
                "correct": [bool(value) for value in column(correct)],
                "irs": column(irs),
            }
        )

    losses = table(held_out)
    signals.of(HeldOutLoss).write(table(start), losses[::2], losses[1::2])
    signals.of(PairedLoss).write(losses)
    text = np.full(int(pool.reference.sum()), 1.0, dtype=np.float32)
    signals.of(TextLoss).write(pool, pool.reference, {"loss_without_image": text}, {})
    return TaskFacts(pool, signals)
