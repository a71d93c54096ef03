"""Conclusions from the figures of one run, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]


def arm_label(arm: str, selector: str | None) -> str:
    """Return the label of an arm on the page."""
    final = f"{selector} (final)" if selector else "final"
    names = {"final": final, "full": "full data", "random": "random"}
    return names.get(arm, arm)


def headline(report: Json) -> str:
    """Return the headline: images selected, pool, tasks and selector."""
    counts, selector = report["counts"], report["selector"] or "the selector"
    pool, selected, reference = counts["pool"], counts["selected"], counts["reference"] or 0
    if not pool:
        return "The pool has not been read yet."
    where = f" in {plural(counts['tasks'], 'task')}" if counts["tasks"] else ""
    if selected is None:
        return f"A pool of {plural(pool, 'image')}{where}; nothing has been selected yet."
    total = reference + selected
    how = f"{selected:,} by {selector}"
    if reference:
        how = f"{reference:,} at random for the reference split, {how}"
    return f"{total:,} of {pool:,} images{where} were selected ({share(total, pool)}): {how}."


def verdict(report: Json) -> list[str]:
    """Return sentences on the quality of the selection; the first is printed on the console.

    Significance over test items is by a paired bootstrap where every item's credit was kept; over
    several benchmarks, of relative performance. Otherwise it is by a margin, for one benchmark in
    percent: with n answers, of which the shares p and q are correct,
    1.96 sqrt((p(1-p) + q(1-q)) / n). The margin assumes independent answers (the arms share their
    questions, so it is rather too wide). Neither covers the variance over training seeds. A
    difference inside the interval or margin is not called a win.
    """
    rows = {row["arm"]: row for row in report["arms"]}
    final = rows.get("final", {}).get("scores", {})
    if report["state"] == "waiting":
        what = "The run waits for instructions: fill in selection/requests.csv."
        return [what, "The quality of the selection is not known before they are there."]
    if not any(score is not None for score in final.values()):
        unknown = "No benchmark has scored the final model, so its quality is not known."
        return [unknown, *cut_short(report.get("stages", []))]
    name = report["selector"] or "The selector"
    found = [*against_random(name, rows, report), *against_full(rows, report["counts"])]
    return [*found, *cut_short(report.get("stages", []))]


def cut_short(stages: Iterable[Json]) -> list[str]:
    """Say which fits their time limit has ended early."""
    return [
        f"The fit of {stage['stage']} was cut short {stage['cut_short']}: its model is not that of "
        "a whole fit. A start with another limit, or without one, continues it."
        for stage in stages
        if "cut_short" in stage
    ]


def against_random(name: str, rows: Mapping[str, Json], report: Json) -> list[str]:
    """Compare the final arm with a random selection of the same size."""
    final, random = rows["final"]["scores"], rows.get("random", {})
    shared = {
        b: (s, r)
        for b, s in final.items()
        if s is not None and (r := random.get("scores", {}).get(b)) is not None
    }
    if name == "Random":
        return [
            "The selection is itself a random sample; the command compare sets others beside it."
        ]
    if not shared:
        reason = random.get("left_out")
        why, cure = (
            (f" ({reason})", "")
            if reason
            else ("", " (--baselines random adds one where its images have an instruction)")
        )
        what = f"No random selection was scored{why}, so this run does not show that {name}"
        return [f"{what} is better than random selection{cure}."]
    caution = "One seed cannot resolve small differences: repeat the run with other seeds."
    paired = {row["benchmark"]: row for row in report["paired"] if row["against"] == "random"}
    ahead = report["relative_to_random"]
    if len(shared) == 1:
        ((benchmark, (ours, theirs)),) = shared.items()
        row, n = paired.get(benchmark), report["test_items"].get(benchmark)
        open_, notes = _interval(row, f"the {row['n']:,}") if row else _margin(ours, theirs, n)
        first = f"{outcome(name, ours - theirs, 'points', open_)} ({ours:.1f} against {theirs:.1f})"
    elif ahead and ahead["low"] is not None:
        open_, notes = _interval(ahead, "each benchmark's")
        first = (
            f"{outcome(name, ahead['difference'], 'points of relative performance', open_)} "
            f"({ahead['ours']:.1f} % against {ahead['theirs']:.1f} % of full-data tuning)"
        )
    else:
        return [*one_by_one(name, shared, paired, ahead), caution]
    return [f"{first}.", *notes, caution]


def outcome(name: str, difference: float, unit: str, left_open: bool | None) -> str:
    """Return which arm scored higher, and by how much; `left_open` is None where unknown."""
    if round(difference, 1) == 0:
        return f"{name} and random selection came out equal on this pool"
    if left_open:
        return f"{name} is not distinguishable from random selection on this pool: {difference:+.1f} {unit}"
    by = f"{abs(difference):.1f} {unit}"
    if left_open is None:
        where = "above" if difference > 0 else "below"
        return f"{name} came out {by} {where} random selection on this pool"
    where = "ahead of" if difference > 0 else "behind"
    return f"{name} was {where} random selection on this pool by {by}"


def one_by_one(
    name: str,
    shared: Mapping[str, tuple[float, float]],
    paired: Mapping[str, Json],
    ahead: Json | None,
) -> list[str]:
    """Count the benchmarks on which the final arm scored higher, without a common interval."""
    above = sum(ours > theirs for ours, theirs in shared.values())
    below = sum(ours < theirs for ours, theirs in shared.values())
    first = f"{name} scored above random selection on {above} and below it on {below}"
    sentences = [f"{first} of {len(shared)} benchmarks."]
    if paired:
        clear = sum(row["low"] > 0 for row in paired.values())
        worse = sum(row["high"] < 0 for row in paired.values())
        sentences.append(
            f"Beyond the 95 % interval of the test items: above on {clear}, below on {worse}; "
            f"the difference on the other {len(shared) - clear - worse} is not significant."
        )
    if ahead:
        sentences.append(
            f"Relative performance ({ahead['ours']:.1f} % against {ahead['theirs']:.1f} %) has no "
            f"interval: no credits of single items were kept for {', '.join(ahead['without'])}."
        )
    return sentences


def _interval(row: Json, whose: str) -> tuple[bool, list[str]]:
    """Return whether 0 is inside a paired bootstrap interval, and a sentence on it."""
    low, high = row["low"], row["high"]
    text = (
        f"A paired bootstrap over {whose} test items puts the difference of these two trained "
        f"models between {low:+.1f} and {high:+.1f} points (95 %)"
    )
    if low <= 0 <= high:
        return True, [f"{text}, so this difference is not significant."]
    return False, [f"{text}; it does not cover the variance over training seeds."]


def _margin(ours: float, theirs: float, n: int | None) -> tuple[bool | None, list[str]]:
    """Return the same by the margin of independent answers; None where there is none."""
    if not n or not (0 <= ours <= 100 and 0 <= theirs <= 100):
        return None, []
    margin = 1.96 * math.sqrt((ours * (100 - ours) + theirs * (100 - theirs)) / n)
    if margin == 0:
        return None, []
    inside = abs(ours - theirs) <= margin
    text = f"The margin of {n:,} test answers is about {margin:.1f} points either way"
    rest = "so this difference is not significant" if inside else "and the difference is larger"
    return inside, [f"{text}, {rest}."]


def against_full(rows: Mapping[str, Json], counts: Mapping[str, int | None]) -> list[str]:
    """Compare the final arm with full data, and both with the untrained model."""
    sentences = []
    relative = rows["final"]["relative"]
    if relative is not None:
        used, pool = rows["final"]["instructions"], counts["pool"]
        cost = f" with {share(used, pool)} of the instructions" if used and pool else ""
        sentences.append(f"It keeps {relative:.1f} % of full-data tuning{cost}.")
        if relative > 100:
            sentences.append("More than 100 % on one seed is no proof that less data is better.")
    if _not_above(rows, "full", "untrained"):
        sentences.append(
            "Full data was ahead of the untrained model on no benchmark, so this pool does not "
            "distinguish one selection from another."
        )
    if _not_above(rows, "final", "untrained"):
        sentences.append("The final model is not better than the untrained one on any benchmark.")
    return sentences


def _not_above(rows: Mapping[str, Json], arm: str, other: str) -> bool:
    """Return whether an arm is better than another on no benchmark of both."""
    ours, theirs = (rows.get(name, {}).get("scores", {}) for name in (arm, other))
    pairs = [(s, theirs[b]) for b, s in ours.items() if s is not None and theirs.get(b) is not None]
    return bool(pairs) and all(mine <= yours for mine, yours in pairs)


def share(part: int, whole: int) -> str:
    """Format a share as a percentage."""
    return f"{100 * part / whole:.1f} %"


def plural(n: int, noun: str) -> str:
    """Format a count with its noun."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
