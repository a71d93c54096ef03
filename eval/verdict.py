"""What may be said, in words, about the figures of one run; losses as plainly as gains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from presel_lightning.eval.relative import Scores

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
    item's credit was kept. Where it was not, by a margin: with n answers, of which the shares p and
    q are right, 1.96 sqrt((p(1-p) + q(1-q)) / n). That takes both sets of answers as independent
    (they share their questions, which makes it rather too wide). Neither knows how another training
    seed would come out, which makes both too narrow. They are given for one benchmark in percent.
    """
    rows = {row["arm"]: row for row in report["arms"]}
    final = rows.get("final", {}).get("scores", {})
    if report["state"] == "waiting":
        what = "The run waits for instructions: selection/requests.jsonl lists the images."
        return [what, "Nothing can be said about the quality of the choice before they are there."]
    if not any(score is not None for score in final.values()):
        return ["No benchmark has scored the final model, so its quality is not known."]
    name = report["selector"] or "The selector"
    random = rows.get("random", {}).get("scores", {})
    left_open = {row["benchmark"]: row for row in report["paired"] if row["against"] == "random"}
    sentences = against_random(name, final, random, rows, report["test_items"], left_open)
    return [*sentences, *against_full(rows, report["counts"])]


def against_random(
    name: str,
    final: Scores,
    random: Scores,
    rows: Mapping[str, Json],
    items: Mapping[str, int],
    paired: Mapping[str, Json],
) -> list[str]:
    """The final arm beside a random choice of the same size."""
    shared = {
        b: (s, r) for b, s in final.items() if s is not None and (r := random.get(b)) is not None
    }
    if not shared:
        what = "No random choice was scored beside it, so this run cannot show that choosing"
        return [f"{what} with {name} is better than choosing by chance (`baselines: [random]`)."]
    caution = "One seed cannot resolve small differences: repeat the run with other seeds."
    if len(shared) == 1:
        ((benchmark, (ours, theirs)),) = shared.items()
        first = f"{outcome(name, ours - theirs, 'points')} ({ours:.1f} against {theirs:.1f})."
        if benchmark in paired:
            return [first, _interval(paired[benchmark]), caution]
        return [first, *_margin(ours, theirs, items.get(benchmark)), caution]
    relative = [rows[arm]["relative"] for arm in ("final", "random")]
    if None not in relative:
        ours, theirs = relative
        first = (
            f"{outcome(name, ours - theirs, 'points of relative performance')} "
            f"({ours:.1f} % against {theirs:.1f} % of full-data tuning)."
        )
        return [first, caution]
    ahead = sum(ours > theirs for ours, theirs in shared.values())
    behind = sum(ours < theirs for ours, theirs in shared.values())
    first = (
        f"{name} scored above random choice on {ahead} and below it on {behind} of "
        f"{len(shared)} benchmarks."
    )
    return [first, caution]


def outcome(name: str, difference: float, unit: str) -> str:
    """Who was ahead, and by how much."""
    if round(difference, 1) == 0:
        return f"{name} and random choice came out equal on this pool"
    if difference < 0:
        return f"{name} lost to random choice on this pool by {-difference:.1f} {unit}"
    return f"{name} beat random choice on this pool by {difference:.1f} {unit}"


def _interval(row: Json) -> str:
    """What the bootstrap over the test items in pairs says of a difference."""
    low, high = row["low"], row["high"]
    told = (
        f"Drawing the {row['n']:,} test items anew, in pairs, puts the difference of these two "
        f"trained models between {low:+.1f} and {high:+.1f} points (95 %)"
    )
    if low <= 0 <= high:
        return f"{told}, so this difference settles nothing."
    return f"{told}, but knows nothing of how another seed would train them."


def _margin(ours: float, theirs: float, n: int | None) -> list[str]:
    if not n or not (0 <= ours <= 100 and 0 <= theirs <= 100):
        return []
    margin = 1.96 * math.sqrt((ours * (100 - ours) + theirs * (100 - theirs)) / n)
    if margin == 0:
        return []
    inside = abs(ours - theirs) <= margin
    told = f"{n:,} test answers alone leave about {margin:.1f} points open either way"
    rest = "so this difference settles nothing" if inside else "and the difference is larger"
    return [f"{told}, {rest}."]


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
