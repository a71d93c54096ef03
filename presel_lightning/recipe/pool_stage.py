"""The stage `pool`: annotations in, a pool of images that can be trained on out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape

from presel_lightning.console import track
from presel_lightning.data import build_pool, images_changed, load_pool
from presel_lightning.data.build import pool_key
from presel_lightning.data.copies import line_of, read_copies
from presel_lightning.data.cures import cures_of
from presel_lightning.data.exclude import EXCLUDED
from presel_lightning.data.foreign import nothing_usable
from presel_lightning.data.pixels import summary
from presel_lightning.data.record_file import texts_path
from presel_lightning.data.source import PoolSource
from presel_lightning.data.texts import Texts
from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.recipe.beside import hold_out
from presel_lightning.recipe.context import Context
from presel_lightning.recipe.field_counts import require_field
from presel_lightning.recipe.instructions import Instructions
from presel_lightning.run.ranks import rank_zero
from presel_lightning.run.stages import Facts

Json = dict[str, Any]


def read_pool(context: Context, instructions: Instructions) -> None:
    """Read the annotations, check every image, leave out what is broken.

    Args:
        context: of the run; its data module holds the pool afterwards.
        instructions: of the run, those of annotators among them.

    Raises:
        UserError: too little of the annotations can be used; see `refuse_problems`.
    """
    out, data, runner = context.out, context.data, context.runner
    source = data.source(out)
    manifest = out / "pool.parquet"
    if rank_zero() and manifest.exists() and images_changed(out, source.resolver):
        runner.ledger.record("pool", status="stale")  # an image was mended or lost

    def work() -> Facts:
        counts = build_pool(source, out, track=track)
        return {
            "samples": counts.pool,
            "text_only": counts.text_only,
            "problems": counts.problems,
            "by_problem": counts.by_problem,
            "passed_over": counts.passed_over,
            "shown": counts.shown,
            "notices": list(counts.notices),
            "copies": read_copies(out),
        }

    files = [manifest, out / "problems.csv", *([texts_path(out)] if source.text_only else [])]
    runner.stage("pool", pool_key(source), files, work)
    counts = runner.ledger.stage("pool")
    for line in notes(counts, source, data):
        runner.print(line)
    refuse_problems(counts, data, out)
    data.pool = load_pool(out, source.image_root)
    data.texts = Texts(out) if source.text_only else None
    instructions.use_answers()
    if data.count_key:
        require_field(data.pool, data.count_key)
    hold_out(context)


def notes(counts: Json, source: PoolSource, data: SelectionDataModule) -> list[str]:
    """Return lines of the console on what was passed over, how images were read, and copies."""
    lines = []
    if others := counts.get("passed_over"):
        kinds = ", ".join(f"{n} {kind}" for kind, n in others.items())
        lines.append(f"  passed over, no pictures: {kinds}")
    lines += [f"  {line}" for line in summary(counts.get("shown", {}), data.pixels)]
    if source.follow_links:
        lines.append(f"  image root {source.resolver.root}: links out of it are followed")
    notices = list(counts.get("notices", ()))
    if "copies" in counts and (found := line_of(counts["copies"], data.copies)):
        notices.append(found)
    return lines + [f"[yellow]![/] {escape(notice)}" for notice in notices]


def refuse_problems(counts: Json, data: SelectionDataModule, out: Path) -> None:
    """Stop before any training where too little of the annotations can be used.

    Raises:
        UserError: more problems than `data.max_problem_fraction` allows, or no sample at all.
    """
    records = counts["samples"] + counts["text_only"] + counts["problems"]
    kinds = ", ".join(f"{n} {kind}" for kind, n in counts["by_problem"].items())
    wrong = counts["problems"] - counts["by_problem"].get(EXCLUDED, 0)
    found = f"{counts['problems']} of {records} records have problems ({kinds})"
    listed = f"listed with file and record in {out / 'problems.csv'}"
    cures = cures_of(counts["by_problem"])
    if wrong > data.max_problem_fraction * records:
        raise UserError(
            f"{found}, more than data.max_problem_fraction {data.max_problem_fraction} "
            f"allows; they are {listed}: raise that limit, or fix them: {cures}"
        )
    if counts["samples"] == 0 and counts["problems"]:
        raise UserError(f"{found}, and no image is left; they are {listed}: fix them: {cures}")
    if counts["samples"] == 0:
        others, text_only = counts.get("passed_over", {}), counts["text_only"]
        raise UserError(nothing_usable(data.annotations, others, text_only))
