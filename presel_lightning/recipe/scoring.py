"""Arms on benchmarks: scored where they were fitted, or from what lies on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from presel_lightning.callbacks import Benchmark
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.predictions import predictions_path
from presel_lightning.eval.intervals.published import full_scores
from presel_lightning.eval.intervals.relative import benchmark_table
from presel_lightning.recipe.context import Context
from presel_lightning.run.files import read_json, write_json
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.stages import Facts, devices_at_work
from presel_lightning.tasks import FineTune


class Scoring:
    """Scores the arms of a run.

    Args:
        context: of the run.
    """

    def __init__(self, context: Context) -> None:
        self.context, self.plan, self.factory = context, context.plan, context.factory
        self.out, self.data, self.runner = context.out, context.data, context.runner
        self.keys = context.keys
        self.full: dict[str, float] | None = None
        """Scores of full-data tuning from elsewhere; `examine` reads them."""

    @property
    def names(self) -> list[str]:
        """Names of the benchmarks."""
        return [benchmark.name for benchmark in self.plan.benchmarks]

    def callbacks(self, arm: str) -> list[Benchmark]:
        """What scores an arm at the end of its fit."""
        return [self.scorer(arm)]

    def prepare(self) -> None:
        """Make what all arms are scored on, where that has to be made."""

    def benchmark(self, arms: dict[str, Path | None]) -> None:
        """Score every arm that has not been scored at the end of its fit; compare with full."""
        self.prepare()
        scorers = {arm: self.scorer(arm) for arm in arms}

        def work() -> Facts:
            used: Facts = {}
            for arm, scorer in scorers.items():
                if not broadcast(scorer.done):
                    used = self.score(arms[arm], scorer)
            if rank_zero():
                scores = {arm: read_json(scorer.path) for arm, scorer in scorers.items()}  # type: ignore[arg-type]
                table = benchmark_table(
                    {
                        arm: {n: b["score"] for n, b in s["benchmarks"].items()}
                        for arm, s in scores.items()
                    },
                    self.full,
                )
                write_json(self.out / "benchmark.json", table)
            return {"arms": len(arms), "benchmarks": len(self.names), **used}

        key = fingerprint(
            {"arms": {arm: scorer.key for arm, scorer in scorers.items()}, "full": self.full}
        )
        if not broadcast(lambda: all(scorer.done() for scorer in scorers.values())) and rank_zero():
            self.runner.ledger.record("benchmarks", status="again")  # what failed before
        self.runner.stage("benchmarks", key, [self.out / "benchmark.json"], work, together=True)

    def score_untrained(self) -> None:
        """Score the pre-instruction model alone."""
        self.keys["untrained"] = self.key_of_untrained()
        self.benchmark({"untrained": None})

    def key_of_untrained(self) -> str:
        """Name the pre-instruction model, however it would be tuned, and what it answers in."""
        return self.key_of(self.factory.model("final", tune="none"))

    def key_of(self, module: FineTune) -> str:
        """Name a model as it answers: its content, and the number formats that it computes in."""

        def key() -> str:
            facts, settings = module.fingerprint(), self.factory.trainer_settings("final")
            known = {
                name: facts[name] for name in ("checkpoint", "aspect", "quantization", "dtype")
            }
            # a plugin may set the precision too
            formats = {name: settings.get(name) for name in ("precision", "plugins")}
            return fingerprint({"scored": 2, **known, **formats})

        return broadcast(key)

    def scorer(self, arm: str) -> Benchmark:
        """The benchmark callback of one arm."""
        what = [benchmark.fingerprint() for benchmark in self.plan.benchmarks]
        return Benchmark(
            self.plan.benchmarks,
            self.data.template,
            self.scores_of(arm),
            fingerprint([self.keys[arm], what, self.data.template, self.data.pixels]),
            self.data.eval_batch_size,
            pixels=self.data.pixels,
            predictions=predictions_path(self.out, arm),
        )

    def refile(self, arm: str, scorers: Iterable[Benchmark]) -> None:
        """Write the scores of an arm again under its present key, where they have been written."""
        for scorer in scorers:
            if broadcast(scorer.done):
                scorer.key = self.scorer(arm).key
                scorer.write()

    def scores_of(self, arm: str) -> Path:
        """File of an arm's scores."""
        return self.out / "work" / "scores" / f"{arm}.json"

    def score(self, checkpoint: str | Path | None, scorer: Benchmark) -> Facts:
        """Score a checkpoint on disk, or the pre-instruction model; return the devices used.

        Args:
            checkpoint: folder or hub id; None for the pre-instruction model.
            scorer: the benchmarks.
        """
        trainer = self.factory.trainer("final", self.out / "logs" / "benchmarks")
        devices = self.runner.runs_on(devices_at_work(trainer))
        untrained = self.factory.model("final", tune="none")
        module = untrained if checkpoint is None else self.trained("final", checkpoint)
        module.configure_model()
        scorer.run(trainer, module.to(trainer.strategy.root_device))
        return devices

    def trained(self, stage: str, checkpoint: str | Path) -> FineTune:
        """A module with a model loaded for inference."""
        return self.factory.model(stage, checkpoint=str(checkpoint), components=None, tune="none")

    def examine(self) -> None:
        """Read what the arms will be scored on and compared with before anything is trained.

        Raises:
            UserError: two benchmarks of one name, one that cannot be read, no such full scores.
        """
        names = self.names
        if len(set(names)) < len(names) or "relative" in names:
            raise UserError(
                f"benchmarks: {', '.join(names)} need names of their own, and none may be "
                "`relative`; set `name` in the init_args of one"
            )
        for benchmark in self.plan.benchmarks:
            benchmark.examine()
        self.examine_full()

    def examine_full(self) -> None:
        """Read the scores of full-data tuning from elsewhere, if any.

        Raises:
            UserError: there are none at that place.
        """
        names = self.names
        if not self.plan.full_scores:
            return
        self.full = full = full_scores(self.plan.full_scores)
        if names and not full.keys() & set(names):
            self.runner.print(
                f"[yellow]![/] full_scores {self.plan.full_scores} has none of the benchmarks "
                f"{', '.join(names)}: no relative performance; its names are {', '.join(full)}"
            )

    def evaluate(self, checkpoint: str) -> None:
        """Score one checkpoint on the benchmarks and print the scores."""
        if not self.plan.benchmarks:
            raise UserError("benchmarks is empty; name what to score the checkpoint on")
        name = f"evaluate-{Path(checkpoint).name}"
        self.keys[name] = self.key_of(self.trained("final", checkpoint))
        scorer = self.scorer(name)
        if not broadcast(scorer.done) and rank_zero():
            self.runner.ledger.record(name, status="again")  # what failed before

        def work() -> Facts:
            return {"benchmarks": len(self.plan.benchmarks), **self.score(checkpoint, scorer)}

        self.runner.stage(name, scorer.key, [self.scores_of(name)], work, together=True)
        for benchmark, found in (scorer.scores or broadcast(scorer.kept)).items():
            score = "no score" if found["score"] is None else f"{found['score']:.2f}"
            tasks = ", ".join(f"{task} {value:.1f}" for task, value in found["tasks"].items())
            self.runner.print(f"{benchmark}: [bold]{score}[/] ({tasks})")
        self.runner.print(f"scores: {self.scores_of(name)}")
