"""The time left of a run, on literal numbers."""

from __future__ import annotations

import pytest

from presel_lightning.console import roughly
from presel_lightning.run.progress import Progress, current, measuring
from presel_lightning.run.time_left import DoneWork, PlannedWork, TimeLeft, time_left


def test_time_left_is_the_sum_over_kinds_of_amount_times_mean_rate() -> None:
    # a fit took 30 s for 100 steps and later 60 s for 200: 0.3 s a step; losses 2 s a sample
    seen = {"fit": DoneWork(100, 30) + DoneWork(200, 60), "losses": DoneWork(5, 10)}
    ahead = [
        PlannedWork("final", "fit", 400),
        PlannedWork("full", "fit", 1000),
        PlannedWork("held_out", "losses", 7),
    ]
    assert time_left(ahead, seen) == TimeLeft(400 * 0.3 + 1000 * 0.3 + 7 * 2)
    assert time_left(ahead, seen, workers=2) == TimeLeft((1400 * 0.3 + 14) / 2)


def test_time_left_without_any_comparable_rate_is_unknown() -> None:
    ahead = [PlannedWork("final", "fit", 400)]
    assert time_left(ahead, {}) is None
    assert time_left(ahead, {"losses": DoneWork(5, 10)}) is None
    assert time_left(ahead, {"fit": DoneWork(0, 3)}) is None, "nothing was done in that time"
    assert time_left([], {"fit": DoneWork(1, 1)}) is None


def test_time_left_names_the_kinds_that_it_does_not_count() -> None:
    ahead = [
        PlannedWork("features", "features", 10),
        PlannedWork("final", "fit", 60),
        PlannedWork("final", "scoring", 1),
        PlannedWork("full", "scoring", 1),
    ]
    left = time_left(ahead, {"fit": DoneWork(1, 2)})
    assert left == TimeLeft(120, ("features", "scoring"))
    assert str(left) == "about 2 min left (not counted yet: features, scoring)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "5 s"),
        (11, "10 s"),
        (57, "55 s"),
        (58, "1 min"),
        (734, "12 min"),
        (3599, "1 h"),
        (3 * 3600 + 41 * 60, "3 h 40 min"),
        (53 * 3600, "2 d 5 h"),
        (48 * 3600, "2 d"),
    ],
)
def test_roughly_rounds_as_coarsely_as_an_estimate_is(seconds: float, text: str) -> None:
    assert roughly(seconds) == text


class Clock:
    """A time that tests set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def progress(clock: Clock, lines: list[str]) -> Progress:
    found = Progress(lines.append, clock)
    stages = ["pool", "reference", "losses", "selection", "final"]
    ahead = [
        PlannedWork("reference", "fit", 10),
        PlannedWork("losses", "losses", 100),
        PlannedWork("final", "fit", 30),
        PlannedWork("final", "scoring", 1),
    ]
    found.plan(stages, ahead)
    return found


def test_progress_counts_the_work_under_way(
    progress: Progress, clock: Clock, lines: list[str]
) -> None:
    progress.start("reference")
    assert lines == ["stage 2 of 5, reference"], "no rate is known yet"
    progress.measure("fit", total=10)
    assert progress.left() is None
    clock.now += 8
    progress.advance(4)  # 2 s a step: 6 + 30 to go
    assert progress.left() == TimeLeft(72, ("losses", "scoring"))
    clock.now += 12
    progress.advance(6)
    progress.end("reference")
    assert progress.left() == TimeLeft(60, ("losses", "scoring"))
    progress.start("losses")
    assert lines[-1] == "stage 3 of 5, losses: about 1 min left (not counted yet: losses, scoring)"


def test_progress_of_a_resumed_stage_does_not_count_what_was_there(
    progress: Progress, clock: Clock
) -> None:
    progress.end("reference")  # reused
    progress.start("losses")
    progress.measure(already_done=90)
    clock.now += 3
    progress.advance(5)  # 5 of the last 10, 0.6 s each
    assert progress.left() == TimeLeft(5 * 0.6, ("fit", "scoring"))


def test_second_pass_of_a_stage_is_still_ahead_after_the_first(
    progress: Progress, clock: Clock
) -> None:
    progress.start("losses")
    for rows, left in ((60, 40), (40, 0)):  # 0.5 s a sample
        progress.measure()
        clock.now += rows / 2
        progress.advance(rows)
        known = progress.left()
        assert known is None if left == 0 else known == TimeLeft(left / 2, ("fit", "scoring"))
    progress.end("losses")
    assert progress.done == {"losses": DoneWork(100, 50)}


def test_time_between_the_last_step_and_the_score_is_no_time_of_the_fit(
    progress: Progress, clock: Clock
) -> None:
    progress.start("final")
    progress.measure("fit")
    clock.now += 15
    progress.advance(30)
    clock.now += 100
    progress.record("scoring", 1, 90.0)
    assert progress.done == {"fit": DoneWork(30, 15), "scoring": DoneWork(1, 90)}


def test_progress_is_done_when_all_work_is(progress: Progress) -> None:
    progress.start("final")
    progress.record("scoring", 1, 4.0)
    for stage in ("reference", "losses", "final"):
        progress.end(stage)
    assert progress.planned == [] and progress.left() is None
    assert progress.done == {"scoring": DoneWork(1, 4.0)}


def test_long_stage_is_reported_once_a_minute(
    progress: Progress, clock: Clock, lines: list[str]
) -> None:
    progress.start("reference")
    progress.measure("fit", total=10)
    for _ in range(10):
        clock.now += 20
        progress.advance(1)
    assert lines[0] == "stage 2 of 5, reference" and len(lines) == 1 + 3
    assert lines[1].startswith(
        "stage 2 of 5, reference: about 12 min left"
    )  # 20 s a step, 37 to go


def test_work_outside_of_a_run_is_counted_nowhere(progress: Progress, clock: Clock) -> None:
    progress.start("losses")
    current().measure()
    current().advance(50)
    assert progress.left() is None
    with measuring(progress):
        current().measure()
        clock.now += 5
        current().advance(50)
    assert progress.left() == TimeLeft(5, ("fit", "scoring"))
