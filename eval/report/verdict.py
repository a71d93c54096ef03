"""What may be said, in words, about the figures of one run; losses as plainly as gains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def arm_label(arm: str, selector: str | None) -> str:
    """How an arm is called on the page."""
    final = f"{selector} (final)" if selector else "final"
    names = {"final": final, "full": "full data", "random": "random"}
    return names.get(arm, arm)


def headline(report: Json) -> str:
    """What was done: N of M images, in how many tasks, chosen by whom."""
    counts, selector = report["counts"], report["selector"] or "the selector"
    pool, chosen, reference = counts["pool"], counts["selected"], counts["reference"] or 0
    if not pool:
        return "The pool has not been read yet."
    where = f" in {plural(counts['tasks'], 'task')}" if counts["tasks"] else ""
    if chosen is None:
        return f"A pool of {plural(pool, 'image')}{where}; nothing has been chosen yet."
    total = reference + chosen
    how = f"{chosen:,} by {selector}"
    if reference:
        how = f"{reference:,} at random for the reference split, {how}"
    return f"{total:,} of {pool:,} images{where} were chosen ({share(total, pool)}): {how}."


def verdict(report: Json) -> list[str]:
    """Sentences on the quality of the choice; the first is the one for the console.

    How much the test items leave open is told by a bootstrap over them in pairs, where every
    item's credit was kept; over several benchmarks, of relative performance. Where it was not, by
    a margin, of one benchmark in percent: with n answers, of which the shares p and q are right,
    1.96 sqrt((p(1-p) + q(1-q)) / n). That takes both sets of answers as independent (they share
    their questions, which makes it rather too wide). Neither knows how another training seed would
    come out, which makes both too narrow. Nothing is called better that they leave open.
    """
    rows = {row["arm"]: row for row in report["arms"]}
    final = rows.get("final", {}).get("scores", {})
    if report["state"] == "waiting":
        what = "The run waits for instructions: selection/requests.jsonl lists the images."
        return [what, "Nothing can be said about the quality of the choice before they are there."]
    if not any(score is not None for score in final.values()):
        return ["No benchmark has scored the final model, so its quality is not known."]
    name = report["selector"] or "The selector"
    return [*against_random(name, rows, report), *against_full(rows, report["counts"])]


def against_random(name: str, rows: Mapping[str, Json], report: Json) -> list[str]:
    """The final arm beside a random choice of the same size."""
    final, random = rows["final"]["scores"], rows.get("random", {})
    shared = {
        b: (s, r)
        for b, s in final.items()
        if s is not None and (r := random.get("scores", {}).get(b)) is not None
    }
    if not shared:
        reason = random.get("left_out")
        why, cure = (f" ({reason})", "") if reason else ("", " (`baselines: [random]`)")
        what = f"No random choice was scored beside it{why}, so this run cannot show that choosing"
        return [f"{what} with {name} is better than choosing by chance{cure}."]
    caution = "One seed cannot resolve small differences: repeat the run with other seeds."
    paired = {row["benchmark"]: row for row in report["paired"] if row["against"] == "random"}
    ahead = report["relative_to_random"]
    if len(shared) == 1:
        ((benchmark, (ours, theirs)),) = shared.items()
        row, n = paired.get(benchmark), report["test_items"].get(benchmark)
        open_, told = _interval(row, f"the {row['n']:,}") if row else _margin(ours, theirs, n)
        first = f"{outcome(name, ours - theirs, 'points', open_)} ({ours:.1f} against {theirs:.1f})"
    elif ahead and ahead["low"] is not None:
        open_, told = _interval(ahead, "each benchmark's")
        first = (
            f"{outcome(name, ahead['difference'], 'points of relative performance', open_)} "
            f"({ahead['ours']:.1f} % against {ahead['theirs']:.1f} % of full-data tuning)"
        )
    else:
        return [*one_by_one(name, shared, paired, ahead), caution]
    return [f"{first}.", *told, caution]


def outcome(name: str, difference: float, unit: str, left_open: bool | None) -> str:
    """Who was ahead, and by how much; whether the test items leave it open is not always known."""
    if round(difference, 1) == 0:
        return f"{name} and random choice came out equal on this pool"
    if left_open:
        return f"{name} cannot be told from random choice on this pool: {difference:+.1f} {unit}"
    by = f"{abs(difference):.1f} {unit}"
    if left_open is None:
        where = "above" if difference > 0 else "below"
        return f"{name} came out {by} {where} random choice on this pool"
    return f"{name} {'beat' if difference > 0 else 'lost to'} random choice on this pool by {by}"


def one_by_one(
    name: str,
    shared: Mapping[str, tuple[float, float]],
    paired: Mapping[str, Json],
    ahead: Json | None,
) -> list[str]:
    """On how many benchmarks the final arm was ahead, where they have no interval in common."""
    above = sum(ours > theirs for ours, theirs in shared.values())
    below = sum(ours < theirs for ours, theirs in shared.values())
    first = f"{name} scored above random choice on {above} and below it on {below}"
    told = [f"{first} of {len(shared)} benchmarks."]
    if paired:
        clear = sum(row["low"] > 0 for row in paired.values())
        worse = sum(row["high"] < 0 for row in paired.values())
        told.append(
            f"Beyond the 95 % interval of the test items: above on {clear}, below on {worse}; "
            f"the difference on the other {len(shared) - clear - worse} settles nothing."
        )
    if ahead:
        told.append(
            f"Relative performance ({ahead['ours']:.1f} % against {ahead['theirs']:.1f} %) has no "
            f"interval: no credits of single items were kept for {', '.join(ahead['without'])}."
        )
    return told


def _interval(row: Json, whose: str) -> tuple[bool, list[str]]:
    """What the bootstrap over the test items in pairs says of a difference; whether 0 is in it."""
    low, high = row["low"], row["high"]
    told = (
        f"Drawing {whose} test items anew, in pairs, puts the difference of these two trained "
        f"models between {low:+.1f} and {high:+.1f} points (95 %)"
    )
    if low <= 0 <= high:
        return True, [f"{told}, so this difference settles nothing."]
    return False, [f"{told}, but knows nothing of how another seed would train them."]


def _margin(ours: float, theirs: float, n: int | None) -> tuple[bool | None, list[str]]:
    """The same by the margin of independent answers; None where there is none."""
    if not n or not (0 <= ours <= 100 and 0 <= theirs <= 100):
        return None, []
    margin = 1.96 * math.sqrt((ours * (100 - ours) + theirs * (100 - theirs)) / n)
    if margin == 0:
        return None, []
    inside = abs(ours - theirs) <= margin
    told = f"{n:,} test answers alone leave about {margin:.1f} points open either way"
    rest = "so this difference settles nothing" if inside else "and the difference is larger"
    return inside, [f"{told}, {rest}."]


def against_full(rows: Mapping[str, Json], counts: Mapping[str, int | None]) -> list[str]:
    """The final arm beside training on everything, and both beside no training."""
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
            "Training on everything did not beat the untrained model on any benchmark, so this "
            "pool cannot tell one choice from another."
        )
    if _not_above(rows, "final", "untrained"):
        sentences.append("The final model is not better than the untrained one on any benchmark.")
    return sentences


def _not_above(rows: Mapping[str, Json], arm: str, other: str) -> bool:
    """Whether an arm is nowhere better than another, where both were scored."""
    ours, theirs = (rows.get(name, {}).get("scores", {}) for name in (arm, other))
    pairs = [(s, theirs[b]) for b, s in ours.items() if s is not None and theirs.get(b) is not None]
    return bool(pairs) and all(mine <= yours for mine, yours in pairs)


def share(part: int, whole: int) -> str:
    """A part as a percentage."""
    return f"{100 * part / whole:.1f} %"


def plural(n: int, noun: str) -> str:
    """A count with its noun."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
