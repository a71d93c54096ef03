"""The report of a run: a self-contained page, its figures as JSON, and a console summary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from presel_lightning.console import console as screen
from presel_lightning.console import seconds
from presel_lightning.data.pixels import CHANGED, FRAMES
from presel_lightning.data.run_images import image_resolver
from presel_lightning.errors import UserError
from presel_lightning.eval.report.drawings import MOST_ROWS, draw
from presel_lightning.eval.report.gallery import find_root, thumbnails
from presel_lightning.eval.report.layout import number
from presel_lightning.eval.report.page import embedded, page
from presel_lightning.eval.report.run_folder import read_run
from presel_lightning.eval.report.samples import score_name
from presel_lightning.eval.report.verdict import arm_label, headline, plural, verdict
from presel_lightning.run.files import read_json, write_json, write_text
from presel_lightning.run.ledger import FINISHED

Json = dict[str, Any]

SHOWN_APART = frozenset(
    "stage status fingerprint decisions seconds problems by_problem text_only steps_planned field_counts gpu_seconds peak_memory_mb peak_memory_kind artifact device devices warnings notices copies gpu_hours gpu_cost versions parts time_limit whole_fingerprint".split()  # noqa: SIM905
)

COUNTED = ("samples", "instructions", "steps", "images", "arms", "benchmarks")
RENAMED = {
    "loss_last": "last loss",
    "pool": "of a pool of",
    "fit_seconds": "seconds of the fit",
    "passed_over": "passed over, no pictures:",
}
"""Facts of a stage that are counts of what they name, and those that have another name on the page."""


def write_report(
    out: Path, image_root: Path | None = None, *, images: Literal["any", "needed", "none"] = "any"
) -> Path:
    """Write `report/report.json` and `report/index.html` from the files of a run folder.

    Args:
        out: the run folder.
        image_root: folder of the pool's images; by default that of config.yaml.
        images: `any` shows those that can be opened, `needed` writes nothing where there are none,
            `none` shows none.

    Returns:
        Path of the page. Parts whose files are missing are left out.

    Raises:
        UserError: images are `needed`, and none can be opened.
    """
    report = build_report(out)
    shown = report["gallery"]["items"] if report["gallery"] else []
    named = [item["image"] for item in shown if item["image"] and images != "none"]
    pictures = thumbnails(find_root(out, image_root) if named else None, named, large=True)
    if images == "needed" and named and not pictures:
        where = image_resolver(out, image_root).root  # where that is not known, this says so
        raise UserError(
            f"--run {out}: none of its images can be opened below {where}, such as {named[0]}; give "
            "the folder that they were moved to: --image_root DIR (or --image_root none for a page "
            "without them)"
        )
    write_json(out / "report" / "report.json", report)
    place = out / "report" / "index.html"
    write_text(place, render(report, pictures))
    return place


def build_report(out: Path) -> Json:
    """Build the contents of the page, as JSON values."""
    report = read_run(out)
    return {"headline": headline(report), "verdict": verdict(report), **report}


def render(report: Json, pictures: Mapping[str, str] | None = None) -> str:
    """Render the page as HTML; every text of the run is escaped.

    Args:
        report: contents of the page.
        pictures: data URLs of the thumbnails, by image path.
    """
    labels = {row["arm"]: arm_label(row["arm"], report["selector"]) for row in report["arms"]}
    return page(
        "report.html.j2",
        {
            "number": _number,
            "seconds": _seconds,
            "percent": _percent,
            "facts": _facts,
            "left_out": left_out,
            "plural": plural,
        },
        report=report,
        cards=cards(report),
        state=state(report),
        charts=draw(report),
        labels=labels,
        most_rows=MOST_ROWS,
        missing=missing(report["gallery"], pictures or {}),
        explore=embedded(explore(report, pictures or {})),
    )


def state(report: Json) -> str:
    """Say how far a run is."""
    if report["state"] == "waiting":
        return f"waiting for {_number(report['waits_for'])} instructions".replace("  ", " ")
    known = {
        "done": "finished",
        "selected": "selected; no model has been trained on the selection yet",
        "validated": "scores of selectors validated; nothing has been selected",
        "prepared": "prepared; nothing has been selected yet",
    }
    cut = [
        f"the fit of {s['stage']} cut short {s['cut_short']}"
        for s in report["stages"]
        if "cut_short" in s
    ]
    if report["state"] in known:
        return ", ".join([known[report["state"]], *cut])
    return progress(report)


def progress(report: Json) -> str:
    """Describe a run that has not ended: how many of its stages are done, and which one was running."""
    status = {row["stage"]: row.get("status") for row in report["stages"]}
    whole = {*report["planned"], *status}
    done = sum(each in FINISHED for each in status.values())
    of = f"{done} of {len(whole)}" if report["planned"] else f"{done}"
    at = "".join(f" in {stage}" for stage, each in status.items() if each == "running")
    return f"cut short{at}, or still running: {of} stages done; the page shows what is there"


def explore(report: Json, pictures: Mapping[str, str]) -> Json:
    """Build the data of the page's script for map and gallery; each picture occurs once."""
    items = report["gallery"]["items"] if report["gallery"] else []
    used = [name for name in dict.fromkeys(i["image"] for i in items) if name in pictures]
    place = {name: number for number, name in enumerate(used)}
    return {
        "maps": [{"task": found["task"], **found["points"]} for found in report["maps"]],
        "items": [{**item, "picture": place.get(item["image"])} for item in items],
        "score": score_name(report["selector"]),
        "pictures": [pictures[name] for name in used],
    }


def missing(gallery: Json | None, pictures: Mapping[str, str]) -> int:
    """Count the images of the gallery that cannot be shown."""
    return sum(item["image"] not in pictures for item in gallery["items"]) if gallery else 0


def print_summary(out: Path, console: Console | None = None) -> None:
    """Print the headline, the table of arms and the verdict of a run."""
    path = out / "report" / "report.json"
    report = read_json(path) if path.is_file() else build_report(out)
    for line in summary_lines(report):
        (console or screen).print(line)
    (console or screen).print(f"report: {out / 'report' / 'index.html'}", markup=False)


def summary_lines(report: Json) -> list[RenderableType]:
    """Return the report in a few lines for a terminal."""
    lines: list[RenderableType] = [Text(report["headline"])]
    if any(row["scores"] for row in report["arms"]):
        lines.append(_arms_table(report))
    first, *rest = report["verdict"]
    return [*lines, Text(first, style="bold"), *(Text(line) for line in rest)]


def _arms_table(report: Json) -> Table:
    table = Table("arm", show_edge=False, pad_edge=False, header_style="dim")
    known = any(row["relative"] is not None for row in (*report["arms"], *report["published"]))
    relative = ["relative %"] if known else []
    for name in ("samples", *report["benchmarks"], *relative, "fit"):
        table.add_column(Text(name), justify="right")
    for row in report["arms"]:
        label = Text(arm_label(row["arm"], report["selector"]))
        if row["left_out"]:
            table.add_row(label, Text("left out", style="dim"))
            continue
        scores = [_fixed(row["scores"].get(name)) for name in report["benchmarks"]]
        cells = [
            _number(row["samples"]),
            *scores,
            *[_fixed(row["relative"]) for _ in relative],
            _seconds(row["seconds"]),
        ]
        table.add_row(label, *cells)
    for row in report["published"]:
        scores = [_fixed(row["scores"].get(name)) for name in report["benchmarks"]]
        table.add_row(Text(f"{row['method']} (paper)"), "", *scores, _fixed(row["relative"]), "")
    return table


def cards(report: Json) -> list[tuple[str, str]]:
    """Return label and figure of the key numbers of the page; only those that exist."""
    arms, counts = {row["arm"]: row for row in report["arms"]}, report["counts"]
    final = arms.get("final", {"scores": {}, "relative": None, "seconds": None})
    found = [("images in the pool", _number(counts["pool"]))]
    if counts["selected"] is not None:
        total = counts["selected"] + (counts["reference"] or 0)
        found.append(("images selected", f"{total:,}"))
    scores = {name: final["scores"].get(name) for name in report["benchmarks"]}
    if len(scores) == 1:
        found += [(f"{name}, final model", _fixed(score)) for name, score in scores.items()]
    if final["relative"] is not None:
        found.append(("of full-data tuning", f"{final['relative']:.1f} %"))
    spent = report["cost"]["choosing_seconds"]
    found.append(("time of the selection", "" if spent is None else seconds(spent)))
    found.append(("time of the final fit", _seconds(final["seconds"])))
    return [(label, figure) for label, figure in found if figure]


def _facts(stage: Json) -> str:
    """Format the other facts of a stage."""
    found = [
        plural(value, name[:-1]) if name in COUNTED
        else _seen(value) if name == "shown"
        else f"{number(value)} without an instruction" if name == "missing"
        else f"{RENAMED.get(name, name.replace('_', ' '))} {_fact(value)}"
        for name, value in stage.items()
        if name not in SHOWN_APART and value not in (None, {}, [], 0)
    ]  # fmt: skip
    if n := stage.get("text_only"):
        found.append(f"{number(n)} text-only")
    if n := stage.get("problems"):
        found.append(left_out(n, stage.get("by_problem", {})))
    return ", ".join(found)


def _seen(shown: Mapping[str, int]) -> str:
    """Format the counts of images that a plain conversion does not show as viewers do."""
    found = []
    if n := shown.get("changed"):
        kinds = {kind: shown[kind] for kind in CHANGED if kind in shown}
        found.append(f"{plural(n, 'image')} that viewers show otherwise ({_fact(kinds)})")
    if n := shown.get(FRAMES):
        found.append(f"{plural(n, 'image')} of several frames")
    return ", ".join(found)


def left_out(n: int, kinds: Mapping[str, int]) -> str:
    """Format the number of records left out, by reason: "13 left out: 9 not an image, 4 no answer"."""
    reasons = ", ".join(
        f"{number(count)} {kind.replace('_', ' ')}" for kind, count in kinds.items()
    )
    return f"{number(n)} left out" + (f": {reasons}" if reasons else "")


def _fact(value: object) -> str:
    """Format a fact of a stage: counts by kind as "9 turned, 4 scaled", a list by its elements."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_fact(v)} {k.replace('_', ' ')}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_fact(each) for each in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return number(value)


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _fixed(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else seconds(value)
