"""Instructions of what was chosen: there already, had from an annotator, or waited for."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.markup import escape

from presel_lightning.annotators import Answers, AtMost, Request, read_answers, requests_for
from presel_lightning.errors import InstructionsMissing, UserError
from presel_lightning.recipe import artifacts
from presel_lightning.recipe.artifacts import records_digest
from presel_lightning.recipe.context import Context
from presel_lightning.recipe.requests import REQUESTS, write_requests
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ledger import is_of_comparison
from presel_lightning.run.pages import page
from presel_lightning.run.ranks import broadcast
from presel_lightning.run.stages import Facts


class Instructions:
    """Has selected images annotated, and writes them down for any trainer.

    Args:
        context: of the run.
    """

    def __init__(self, context: Context) -> None:
        self.context, self.plan = context, context.plan
        self.out, self.data, self.runner = context.out, context.data, context.runner

    def examine(self) -> None:
        """Check what the annotator needs; only warn where all its answers are there.

        Raises:
            UserError: something it needs is missing.
        """
        annotator = self.plan.annotator
        if annotator is None:
            return
        try:
            broadcast(annotator.examine)
        except UserError as error:
            if self.runner.ledger.stage("annotations").get("missing") != 0:
                raise
            self.runner.print(f"[yellow]![/] {escape(str(error))}")

    @property
    def answers(self) -> Path:
        """Folder of what annotators have written."""
        return self.out / "annotations"

    def use_answers(self) -> None:
        """Let the pool hold what annotators have written so far."""
        annotator = self.plan.annotator
        pool = self.data.pool
        if annotator is not None and annotator.hides:
            pool = pool.hidden()
        if given := broadcast(lambda: read_answers(self.answers)):
            pool = pool.answered(given)
        self.data.pool = pool

    def write_reference(self, uids: np.ndarray) -> None:
        """Write `reference.json`, with the instructions that there are."""
        pool = self.data.pool

        def work() -> Facts:
            artifacts.write_llava(self.out / "reference.json", pool, uids)
            self.context.rounds.draw(self.plan.seed, uids)
            return {"samples": len(uids), "seed": self.plan.seed}

        key = fingerprint({"split": 1, "records": records_digest(pool, uids)})
        self.runner.stage("split", key, [self.out / "reference.json"], work)

    def require(self, uids: np.ndarray, what: str) -> None:
        """Write what is chosen for any trainer, and what is missing for an annotator.

        Raises:
            InstructionsMissing: some of these samples have no instruction yet.
        """
        if self.annotate(uids, what) and what != "selection":
            self.write_reference(uids)
        pool = self.data.pool
        missing = uids[~pool.has_instruction[pool.rows(uids)]]
        folder = self.out / "selection"
        weights = artifacts.read_weights(self.out) if what == "selection" else {}

        def work() -> Facts:
            known = set(pool.uid[pool.has_instruction].tolist())
            write_requests(folder, self.requests(missing, what), known)
            if what == "selection":
                artifacts.write_llava(folder / "selected.json", pool, uids, weights)
            return {"samples": len(uids), "missing": len(missing)}

        if what == "selection" or len(missing):
            named = {"weights": artifacts.weights_digest(weights)} if weights else {}
            records = records_digest(pool, uids)
            key = fingerprint({"instructions": what, "records": records, **named})
            names = [*REQUESTS, *(["selected.json"] if what == "selection" else [])]
            files = [folder / name for name in names]
            self.runner.stage("instructions", key, files, work)

        def wait() -> None:
            self.runner.ledger.update(state="waiting")
            if what != "selection":  # a choice that lies there is of another configuration
                for name in (
                    "selection.parquet",
                    "tasks.csv",
                    "manifest.json",
                    "selected.json",
                ):
                    (folder / name).unlink(missing_ok=True)
            listed = folder / "requests.jsonl"
            raise InstructionsMissing(self.waiting_message(len(missing), len(uids), what, listed))

        if len(missing):
            broadcast(wait)

    def waiting_message(self, missing: int, of: int, what: str, path: Path) -> str:
        """What a person has to do now, and what it costs, in one line."""
        price = self.plan.price_per_instruction
        cost = "" if price is None else f" (at {price:,.2f} each: {price * missing:,.2f})"
        table = path.with_suffix(".csv")
        cure = (
            "write question and answer of each there and run the same command again with --annotator "
            f"FromFile --annotator.init_args.path {table} (or LLaVA JSON, or JSON lines), or let "
            "another annotator write them, or type them on a page (python -m presel_lightning review "
            f"--run {self.out}); see {page('annotate.md')}"
        )
        if is_of_comparison(self.out):
            every = self.out.parent.parent / table.name
            cure = (
                f"write question and answer into {every}, which lists once what all cells ask for, and "
                f"run `compare` again with --annotator FromFile --annotator.init_args.path {every}; "
                f"see {page('compare.md')}"
            )
        if self.plan.annotator is not None:
            cure = f"{self.plan.annotator.cure}, and run the same command again"
        return (
            f"{missing} of {of} images of the {what} have no instruction yet{cost}; they are listed "
            f"in {path} and, to be filled in, in requests.csv: {cure}{self.of_no_image()}"
        )

    def of_no_image(self) -> str:
        """Return a note on answers to images that the pool does not hold, as after a renaming; or nothing."""
        others = len(read_answers(self.answers).keys() - set(self.data.pool.uid.tolist()))
        if not others:
            return ""
        return (
            f". {others} of the answers in {self.answers / 'answers.jsonl'} are of no image of this "
            "pool: where files or folders were renamed, rename them back"
        )

    def requests(self, uids: np.ndarray, what: str) -> list[Request]:
        """What an annotator is asked for."""
        pool, annotator = self.data.pool, self.plan.annotator
        why: str | dict[str, str] = what
        if what == "selection":
            reasons = artifacts.read_reasons(self.out)
            why = {uid: f"{what}: {reason}" for uid, reason in reasons.items()}
        ask = requests_for if annotator is None else annotator.requests
        return [replace(each, pixels=self.data.pixels) for each in ask(pool, uids, why)]

    def annotate(self, uids: np.ndarray, what: str) -> bool:
        """Have the missing instructions written, by the first process, and use them.

        What the annotation file itself holds is never asked for; an answer that was had before is
        asked for again only where that is free.

        Returns:
            Whether there was anything to ask for.
        """
        annotator, pool = self.plan.annotator, self.data.pool
        wanted = uids[~pool.in_file[pool.rows(uids)]]
        if annotator is None or not len(wanted):
            return False

        def work() -> None:
            asked = self.requests(wanted, what)
            left = [r for r in asked if not pool.has_instruction[pool.rows([r.uid])[0]]]
            if left and (cost := annotator.estimate(left, self.answers)) is not None:
                about = "" if isinstance(cost, AtMost) else "about "
                self.runner.print(f"  {len(left)} instructions to write, {about}{cost:,.2f}")
            answers = annotator.annotate(asked, self.answers, pool)
            self.print_answers(answers, what)
            before = self.runner.ledger.stage("annotations")
            took = time.perf_counter() - start if left or not before else 0.0
            self.runner.ledger.record(
                "annotations",
                status="done",
                seconds=round(before.get("seconds", 0.0) + took, 3),  # of all starts
                samples=len(wanted) - len(answers.missing),
                missing=len(answers.missing),
                **({} if answers.cost is None else {"cost": round(answers.cost, 6)}),
            )

        start = time.perf_counter()
        broadcast(work)
        self.use_answers()
        return True

    def print_answers(self, answers: Answers, what: str) -> None:
        """Say what came in."""
        cost = "" if answers.cost is None else f", {answers.cost:,.4f} paid so far"
        self.runner.print(
            f"[green]✓[/] {'answers':<12} {len(answers.conversations)} of the {what}{cost}"
        )
        for note in answers.notes:
            self.runner.print(f"  {note}")
        if answers.problems:
            self.runner.print(
                f"[yellow]![/] {len(answers.problems)} answers could not be used: "
                f"{self.answers / 'problems.csv'}"
            )
