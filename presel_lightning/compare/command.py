"""`compare`: shared stages once, then a run folder for each cell, then one page."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import yaml

from presel_lightning.annotators import FromFile, FromPool
from presel_lightning.compare.cells import FULL, Cell, Grid, GridKeys, resolved
from presel_lightning.compare.jobs import Job, Main, Slots, run_jobs
from presel_lightning.compare.jobs_left import CELLS, SPLITS, JobsLeft, amount_of
from presel_lightning.compare.join import POOL, SPLIT, TEST, join
from presel_lightning.compare.requests import merge_requests
from presel_lightning.console import console, track
from presel_lightning.data.sizes import count_of
from presel_lightning.data.source import refuse_missing
from presel_lightning.errors import InstructionsMissing, PreselError, UserError
from presel_lightning.eval.comparison.cells import is_scored
from presel_lightning.eval.comparison.page import print_comparison, write_comparison
from presel_lightning.recipe.recipe import Recipe
from presel_lightning.run.files import read_json, replacing_folder, write_json, write_text
from presel_lightning.run.fingerprint import digest_lines, fingerprint
from presel_lightning.run.ledger import CELL, Ledger
from presel_lightning.run.ranks import is_distributed
from presel_lightning.run.time_left import PlannedWork
from presel_lightning.selectors import Selector
from presel_lightning.signals import Signal
from presel_lightning.signals.base import made_by

Json = dict[str, Any]
Failed = list[tuple[Job, int]]
"""Failed jobs, with their exit codes."""

NOT_OF_A_CELL = (*(key.name for key in fields(GridKeys)), "out")
WAITING = 3


def compare(recipe: Recipe, grid: Grid, main: Main) -> None:
    """Train and score every cell of a grid on one pool; write table and page.

    Cells are run folders: each can be inspected, reported and continued alone. Shared artifacts are
    made once and linked: the pool and its features, and for each seed the reference split, the
    reference model and its losses. The split is part of every cell, so that all selectors start
    from the same instructions.

    Args:
        recipe: recipe of the configuration that all cells share.
        grid: selectors, budgets, seeds and pools.
        main: the program's entry point, for the worker processes.

    Raises:
        UserError: the grid is invalid, or the processes were started by a launcher.
        InstructionsMissing: some cells wait for instructions; all others are done.
    """
    if is_distributed() or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("compare starts its own processes; run it as one, without torchrun or srun")
    if not recipe.scoring.names:
        raise UserError(
            "benchmarks is empty; name what the models are compared on, such as --benchmarks+ "
            "AnnotationFile --benchmarks.path test.csv"
        )
    if not isinstance(recipe.plan.annotator, FromFile | FromPool | None):
        raise UserError(
            "compare requests no instructions, as parallel cells would pay for an image more than "
            "once; obtain them with `fit` or `select`, then give --annotator FromFile "
            "--annotator.init_args.path OUT/annotations/answers.jsonl"
        )
    selectors = {
        entry.label: recipe.factory.selector(resolved(entry.selector, recipe.plan.selector_spec))
        for entry in grid.entries()
    }
    recipe.scoring.examine()
    recipe.begin()
    if grid.pools:
        failed = compare_pools(recipe.out, grid.pools, main)
    else:
        failed = compare_cells(recipe, grid, selectors, main)
    recipe.runner.ledger.update(state="incomplete" if failed else "done")
    list_requests(recipe.out, failed)
    stop_if(failed)


def compare_pools(out: Path, pools: Sequence[str], main: Main) -> Failed:
    """Run the same comparison on one pool after another, and write a page over all.

    Raises:
        UserError: a pool does not exist, or two would have one folder.
    """
    refuse_missing("pools", [Path(pool).expanduser() for pool in pools])
    config = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    folders = {pool: out / "pools" / re.sub(r"\W+", "_", pool).strip("_")[-100:] for pool in pools}
    if len(set(folders.values())) < len(pools):
        raise UserError(
            f"pools: {', '.join(pools)} would share a folder of results; give each once"
        )
    jobs = []
    for pool, folder in folders.items():
        file = folder / "pool.yaml"
        data = {**config["data"], "annotations": pool}
        write_text(file, yaml.safe_dump({**config, "data": data, "pools": []}, sort_keys=False))
        jobs.append(Job(pool, ["compare", "--config", str(file), "--out", str(folder)]))
    failed = [(job, code) for job, code, _ in run_jobs(jobs, Slots(1), main) if code]
    done = [(pool, folder) for pool, folder in folders.items() if (folder / "grid.json").exists()]
    if done:
        write_comparison(out, done)
        print_comparison(out)
    return failed


def compare_cells(
    recipe: Recipe, grid: Grid, selectors: Mapping[str, Selector], main: Main
) -> Failed:
    """Make the shared artifacts, run the cells, and write the page."""
    out, cells = recipe.out, grid.cells()
    needs = {name: selector.needs for name, selector in selectors.items()}
    wanted = sorted({*recipe.arms.needs, *(need for each in needs.values() for need in each)})
    recipe.reach_hub(*recipe.models_of(wanted, ["final"]), wanted)
    recipe.pool()
    if not can_have_everything(recipe):
        cells = [cell for cell in cells if cell.entry.label != FULL]
        recipe.runner.print("[yellow]![/] full left out: not every image has an instruction")
    pool = recipe.data.pool
    n = len(pool)
    reference = count_of(recipe.data.reference, n, "data.reference")
    for budget in grid.budgets:
        if (count := count_of(budget, n, "budgets")) < reference:
            raise UserError(
                f"budgets: {budget} ({count} samples) is less than data.reference "
                f"{recipe.data.reference} ({reference}), which every cell holds; raise the budget "
                "or lower the reference"
            )
    shared = [name for name in wanted if not Signal.known[name].on_reference]
    recipe.make_signals(shared, pool.uid[:0])
    recipe.scoring.prepare()
    slots = what_fits(recipe, grid.workers)
    config = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    steps = recipe.arms.steps(len(pool)) if grid.equal == "steps" else None
    described = [describe(cell, needs.get(cell.entry.label, ())) for cell in cells]
    write_json(out / "grid.json", {"cells": described, "rests_on": rests_on(recipe, selectors)})
    first = {cell.seed: cell for cell in cells}.values()
    prepared = [prepare(out, cell_config(config, cell, None), wanted) for cell in first]
    splits = [job for job in prepared if job]
    amounts = {c.name: amount_of(c, n, equal_steps=steps is not None) for c in cells}
    planned = [PlannedWork(name, CELLS, amount) for name, amount in amounts.items()]
    jobs_left = JobsLeft(
        [*(PlannedWork(job.name, SPLITS, 1) for job in splits), *planned], slots.workers
    )
    failed = work_off(splits, slots, SPLITS, jobs_left, main)
    if failed:
        return failed
    entered = [enter(out, cell, cell_config(config, cell, steps)) for cell in cells]
    jobs = [job for job in entered if job]
    names = {job.name for job in jobs}
    jobs_left.planned = [work for work in planned if work.stage in names]
    failed = work_off(jobs, slots, CELLS, jobs_left, main)
    if not any(is_scored(out / "cells" / c.name) for c in cells if c.entry.label != FULL):
        return failed
    recipe.scoring.score_untrained()
    write_comparison(out)
    print_comparison(out)
    return failed


def can_have_everything(recipe: Recipe) -> bool:
    """Return whether full data can be trained on: every instruction exists or can be read."""
    pool, annotator = recipe.data.pool, recipe.plan.annotator
    missing = pool.uid[~pool.has_instruction]
    if isinstance(annotator, FromFile):
        return annotator.holds(missing, pool)
    return not len(missing) or isinstance(annotator, FromPool)


def rests_on(recipe: Recipe, selectors: Mapping[str, Selector]) -> str:
    """Return the fingerprint of the files that cells depend on besides configuration and pool."""
    world = recipe.factory.trainer("final", recipe.out / "logs" / "compare").world_size
    pool = recipe.data.pool
    return fingerprint(
        {
            "models": recipe.arms.rests_on(world),
            "images": digest_lines(digest.tobytes().hex() for digest in pool.image_digest),
            "benchmarks": [benchmark.fingerprint() for benchmark in recipe.plan.benchmarks],
            "selectors": {name: selector.fingerprint() for name, selector in selectors.items()},
            "full": recipe.scoring.full,
        }
    )


def what_fits(recipe: Recipe, workers: int | None) -> Slots:
    """Compute the number of parallel fits: one per GPU, or cores divided by torch threads."""
    trainer = recipe.factory.trainer("final", recipe.out / "logs" / "compare")
    if trainer.world_size > 1:
        return Slots(1, together=True)
    if trainer.strategy.root_device.type == "cuda":
        every = ",".join(map(str, range(torch.cuda.device_count())))
        devices = tuple(os.environ.get("CUDA_VISIBLE_DEVICES", every).split(","))
        return Slots(min(workers or len(devices), len(devices)), devices)
    return Slots(workers or max(1, (os.cpu_count() or 1) // torch.get_num_threads()))


def cell_config(base: Json, cell: Cell, steps: int | None) -> Json:
    """Build the configuration of a cell, for `fit`."""
    config = {key: value for key, value in base.items() if key not in NOT_OF_A_CELL}
    config["seed_everything"] = cell.seed
    # the selection of an earlier call is ignored
    own = {"budget": cell.budget, "always_reference": True, "extend": False}
    config["data"] = {**base["data"], **own}
    config["baselines"] = []
    config["selector"] = resolved(cell.entry.selector, base["selector"])
    if steps is not None:
        stages = base.get("stages") or {}
        final = stages.get("final") or {}
        trainer = {**(final.get("trainer") or {}), "max_steps": steps, "max_epochs": -1}
        config["stages"] = {**stages, "final": {**final, "trainer": trainer}}
    return config


def describe(cell: Cell, needs: Sequence[str]) -> Json:
    """Build the entry of a cell in `grid.json`."""
    return {
        "name": cell.name,
        "selector": cell.entry.label,
        "spec": cell.entry.selector,
        "needs": list(needs),
        "budget": cell.budget,
        "seed": cell.seed,
    }


def prepare(out: Path, config: Json, needs: list[str]) -> Job | None:
    """Build the job of a seed's reference split and the signals that depend on it."""
    folder = out / "references" / str(config["seed_everything"])
    # the largest possible budget, since the split must fit into it
    config = {**config, "data": {**config["data"], "budget": 1.0}}
    signals = [need for need in needs if Signal.known[need].on_reference]
    return job_of(folder, out, "prepare", config, ["--signals", *signals] if signals else [])


def enter(out: Path, cell: Cell, config: Json) -> Job | None:
    """Build the job that trains and scores a cell; None where that is done."""
    folder = out / "cells" / cell.name
    return job_of(folder, out, "fit", config, [], out / "references" / str(cell.seed))


def job_of(
    folder: Path,
    out: Path,
    command: str,
    config: Json,
    more: list[str],
    reference: Path | None = None,
) -> Job | None:
    """Set up a run folder over shared artifacts; None where it is finished already."""
    ledger = Ledger(folder / "run.json")
    before = {name: stage.get("fingerprint") for name, stage in ledger.read()["stages"].items()}
    taken = join(folder, out, {**POOL, **TEST, **made_by(on_reference=False)})
    if reference is not None:
        taken |= join(folder, reference, {**SPLIT, **made_by(on_reference=True)})
        take_answers(folder / "annotations", reference / "annotations")
    origin = read_json(out / "grid.json")["rests_on"]
    text = f"{yaml.safe_dump(config, sort_keys=False)}# rests on {origin}\n"
    file = folder / CELL
    same = file.exists() and file.read_text(encoding="utf-8") == text
    current = same and all(before.get(name) == key for name, key in taken.items())
    if current and ledger.read().get("state") in ("done", "prepared"):
        return None
    ledger.update(state="joined")
    write_text(file, text)
    arguments = [command, "--config", str(file), "--out", str(folder), *more]
    label = folder.name if reference is not None else f"seed {folder.name}"
    return Job(label, arguments, folder / "log.txt")


def take_answers(own: Path, theirs: Path) -> None:
    """Copy the answers of the reference split, so that none is requested again."""
    if theirs.is_dir() and not own.exists():
        with replacing_folder(own) as folder:
            shutil.copytree(theirs, folder, dirs_exist_ok=True)


def work_off(jobs: list[Job], slots: Slots, what: str, jobs_left: JobsLeft, main: Main) -> Failed:
    """Run jobs, and print each that ends with what is left; return the failed ones with their exit codes."""
    failed = []
    if jobs:
        console.print(f"[dim]  {len(jobs)} {what} to do, {slots.workers} at a time[/]")
    ended = track(run_jobs(jobs, slots, main), what, len(jobs), remaining=False)
    for number, (job, code, seconds) in enumerate(ended, start=1):
        mark = {0: "[green]✓[/]", WAITING: "[yellow]![/]"}.get(code, "[red]✗[/]")
        left = jobs_left.end(job.name, seconds, failed=bool(code))
        line = f"{mark} {job.name:<24} {number} of {len(jobs)} {what}, {left}"
        console.print(line, soft_wrap=True)
        if code:
            failed.append((job, code))
    return failed


def list_requests(out: Path, failed: Failed) -> None:
    """Write the table of what cells ask for that wait for instructions, whatever else has failed.

    Raises:
        UserError: a table that lies there is none any more.
    """
    waiting = [job.log.parent for job, code in failed if code == WAITING and job.log is not None]
    if waiting:
        merge_requests(out, waiting)


def stop_if(failed: Failed) -> None:
    """Raise if a job failed.

    Raises:
        InstructionsMissing: all that failed wait for instructions.
        PreselError: one failed for another reason.
    """
    if not failed:
        return
    job, code = max(failed, key=lambda pair: pair[1] != WAITING)
    others = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    message = f"{job.name}{others} did not end"
    if job.log is not None:
        lines = job.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        # a cell's `data.budget` is one of `budgets` here
        message += f": {' '.join(lines[-1:]).replace('data.budget', 'budgets')} ({job.log})"
    raise InstructionsMissing(message) if code == WAITING else PreselError.with_code(code, message)
