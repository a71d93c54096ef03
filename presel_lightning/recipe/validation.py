"""What a selector's scores are worth: do they predict the models of random subsets?"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import numpy as np

from presel_lightning.data.sizes import count_of
from presel_lightning.errors import UserError
from presel_lightning.eval.irs import IRSLoop
from presel_lightning.eval.report.report import write_report
from presel_lightning.functional.datamodeling import Datamodeling, datamodeling_score
from presel_lightning.recipe.recipe import Recipe
from presel_lightning.run.files import read_json, write_json, write_text
from presel_lightning.run.fingerprint import digest_lines, fingerprint
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.stages import Facts, devices_of
from presel_lightning.selectors import Selector

LEAST = 3
"""Subsets that a rank correlation needs."""


def validate(recipe: Recipe, selectors: Mapping[str, Selector], subsets: int) -> None:
    """Train on random subsets, and set their losses on the reference split beside summed scores.

    A subset has as many samples as the budget adds to the reference split, and none of that split.
    Each is a stage of its own, so that a run that was stopped goes on after the last one. Writes
    `validation.csv` and the report, and prints both.

    Args:
        recipe: of the run.
        selectors: whose scores are examined, by label.
        subsets: number of subsets.

    Raises:
        UserError: too few subsets.
    """
    if recipe.plan.two_tower is not None:
        raise UserError(
            "validate trains the model of `model` on each subset, and with two_tower there is none: set "
            "two_tower to null, or compare the selectors by `compare`"
        )
    if subsets < LEAST:
        raise UserError(
            f"subsets is {subsets}; a rank correlation needs {LEAST} or more, better 20"
        )
    recipe.data.always_reference = True
    recipe.prepare(list(dict.fromkeys(n for each in selectors.values() for n in each.needs)))
    members = draw_subsets(recipe, subsets)
    outcome = np.array([-trained_loss(recipe, n, rows) for n, rows in enumerate(members)])
    if not rank_zero():
        return
    found = {
        label: score_of(recipe, selector, members, outcome) for label, selector in selectors.items()
    }
    write_validation(recipe.out / "validation.csv", found, subsets)
    for label, result in found.items():
        print_line = f"{label:<16} {result.score:+.2f} [{result.low:+.2f}, {result.high:+.2f}]"
        recipe.runner.print(f"linear datamodeling score  {print_line}")
    recipe.runner.print(f"validation: {recipe.out / 'validation.csv'}")
    recipe.runner.ledger.update(state="validated")
    recipe.runner.print(f"report: {write_report(recipe.out, recipe.data.pool.image_root)}")


def draw_subsets(recipe: Recipe, subsets: int) -> np.ndarray:
    """Draw subsets of the samples with an instruction outside the reference split, (M, n) rows."""
    data, pool = recipe.data, recipe.data.pool
    budget = count_of(data.budget, len(pool), "data.budget") - int(pool.reference.sum())
    free = np.flatnonzero(~pool.reference & pool.has_instruction)
    if not 0 < budget < len(free):
        raise UserError(
            f"data.budget leaves subsets of {budget} of {len(free)} samples, and they must differ; "
            "set it between the reference split and the pool"
        )
    rng = np.random.default_rng([recipe.plan.seed, 9])
    return np.stack([np.sort(rng.permutation(free)[:budget]) for _ in range(subsets)])


def trained_loss(recipe: Recipe, number: int, rows: np.ndarray) -> float:
    """Train on a subset, and return the mean loss on the reference split, in nats.

    The model is removed once its loss is on disk.
    """
    context, pool = recipe.context, recipe.data.pool
    name, uids = f"subset_{number}", pool.uid[rows]
    reference = pool.uid[pool.reference]
    fit = recipe.fits.key(name, uids, stage="final", is_arm=False)
    module = context.factory.model("losses", tune="none")
    key = fingerprint({"subset": 1, "fit": fit, "reference": digest_lines(reference), "how": [module.dtype_name, str(module.quantization)]})  # fmt: skip
    path = recipe.out / "work" / "subsets" / f"{number}.json"
    stage = f"loss_{name}"
    if not broadcast(lambda: recipe.runner.ledger.is_done(stage, key, [path])):
        recipe.fits.run(name, uids, stage="final", is_arm=False)

    def work() -> Facts:
        model = recipe.scoring.trained("losses", recipe.out / "models" / name)
        folder = recipe.out / "work" / f"subset-{key}"
        trainer = context.factory.trainer("losses", recipe.out / "logs" / "subsets")
        devices = recipe.runner.runs_on(devices_of(trainer))
        table = IRSLoop(folder).run(trainer, model, recipe.data, reference)
        losses = table["loss_with_question"].to_numpy().astype(np.float64)
        if rank_zero():
            write_json(path, {"loss": float(np.nanmean(losses))})
            shutil.rmtree(folder, ignore_errors=True)
        return {"samples": len(reference), **devices}

    recipe.runner.stage(stage, key, [path], work, together=True)
    if rank_zero():
        shutil.rmtree(recipe.out / "models" / name, ignore_errors=True)
    return float(broadcast(lambda: read_json(path)["loss"]))


def score_of(
    recipe: Recipe, selector: Selector, members: np.ndarray, outcome: np.ndarray
) -> Datamodeling:
    """Compute the linear datamodeling score of a selector's scores.

    A sample without a score counts as the mean of the others.
    """
    pool = recipe.data.pool
    seed = recipe.plan.seed
    selection = selector.select(pool, recipe.context.signals, members.shape[1], seed=seed)
    score = selection.score.astype(np.float64)
    score[~np.isfinite(score)] = np.nanmean(score[np.isfinite(score)])
    return datamodeling_score(score, members, outcome, seed)


def write_validation(path: Path, found: Mapping[str, Datamodeling], subsets: int) -> None:
    """Write the scores with their intervals as CSV."""
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["selector", "subsets", "score", "low", "high"])
    for label, result in found.items():
        rows.writerow([label, subsets, *(f"{value:.4f}" for value in result)])
    write_text(path, text.getvalue())
