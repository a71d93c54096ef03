"""The fit of one arm: the same module for the reference and for what was selected."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import ceil, inf
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from lightning import Callback, LightningModule, Trainer, seed_everything

from presel_lightning.callbacks import (
    FiniteFit,
    SaveModel,
    SaveMoments,
    SaveWarmUp,
    StepCheckpoint,
    StepCounter,
    StepTimer,
)
from presel_lightning.errors import UserError
from presel_lightning.export.model_card import write_model_card
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.pairs import PairDataModule
from presel_lightning.models.content import CARD
from presel_lightning.recipe.artifacts import records_digest, weights_digest
from presel_lightning.recipe.context import Context
from presel_lightning.recipe.scoring import Scoring
from presel_lightning.run.checkpoints import newest
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ledger import CUT_SHORT
from presel_lightning.run.ranks import broadcast, rank_and_world, rank_zero
from presel_lightning.run.stages import Facts, devices_of
from presel_lightning.run.time_left import PlannedWork
from presel_lightning.tasks import FineTune, TwoTower

SCORING = "scoring"
"""Kind of work: an arm on all benchmarks."""

TimeLimit = str | dict[str, int] | None


class Task(NamedTuple):
    """A fit: what is trained, on what, and what is written down of that."""

    module: FineTune | TwoTower
    data: SelectionDataModule | PairDataModule
    facts: Facts


def fit_steps(settings: Mapping[str, Any], n: int, batch_size: int) -> float:
    """Compute the optimizer steps of a fit.

    Args:
        settings: of its Trainer, of which `max_epochs` and `max_steps` are read.
        n: number of samples.
        batch_size: samples of a step.
    """
    epochs, most = settings["max_epochs"], int(settings["max_steps"])
    times = int(epochs) if epochs.isdecimal() else inf
    steps = times * ceil(n / batch_size)
    return steps if most < 0 else min(steps, most)


class Fits:
    """Tunes the pre-instruction checkpoint on some samples, once for each arm.

    Args:
        context: of the run.
        scoring: scores an arm at the end of its fit.
    """

    rate: ClassVar[str] = "model.lr"
    """Key of the learning rate, for the message of a fit that diverges."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Signals that the arms are trained on."""

    def __init__(self, context: Context, scoring: Scoring) -> None:
        self.context, self.scoring = context, scoring

    def run(
        self,
        name: str,
        uids: np.ndarray,
        *,
        stage: str,
        is_arm: bool,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Tune the pre-instruction checkpoint on some samples.

        Args:
            name: of the model, which is that of its stage and its folder.
            uids: the samples.
            stage: whose overrides apply, `reference` or `final`.
            is_arm: whether the model competes: it is scored, and trained on text-only records too.
                A model that makes a signal is not.
            weights: training weights other than 1, by uid.

        Raises:
            UserError: nothing is to be trained.
        """
        self.examine(stage)
        plan, factory = self.context.plan, self.context.factory
        folder, work_folder = self.context.out / "models" / name, self.context.out / "work"
        whole = broadcast(lambda: self.whole(uids, stage=stage, is_arm=is_arm, weights=weights))
        limit = factory.time_limit(stage)
        key = self.context.keys[name] = broadcast(lambda: self.as_made(name, whole, limit))

        runner = self.context.runner

        def work() -> Facts:
            seed_everything(plan.seed, verbose=False)
            module, data, facts = self.serve(
                name, uids, stage=stage, is_arm=is_arm, weights=weights
            )
            callbacks: list[Callback] = [
                FiniteFit(name, self.rate),
                saver := StepCheckpoint(every_n_train_steps=plan.checkpoint_every),
                SaveModel(folder),
                *([SaveMoments(folder)] if self.keeps_moments(stage) else []),
                *(warm_up := self.warm_up_callbacks(stage, folder)),
                clock := FitClock(),
                StepCounter(runner.progress, self.kind(stage)),
                timer := StepTimer(limit),
                *(scorers := self.scoring.callbacks(name) if is_arm else []),
            ]
            trainer = self.trainer(stage, self.context.out / "logs" / name, callbacks)
            devices = self.context.runner.runs_on(devices_of(trainer))
            passes = trainer.accumulate_grad_batches = data.passes(trainer.world_size)
            # Lightning counts passes: with another number of them a fit begins again
            checkpoints = work_folder / f"fit-{name}-{whole}-{passes}"
            saver.dirpath = str(checkpoints)
            for each in warm_up:
                each.dirpath = str(checkpoints)
            self.context.runner.meter.clock("fit_seconds", clock.seconds)
            trainer.fit(module, datamodule=data, ckpt_path=broadcast(lambda: newest(checkpoints)))
            for scorer in scorers:
                if scorer.scores:  # a sharded model is scored later
                    took = sum(found["seconds"] for found in scorer.scores.values())
                    runner.progress.record(SCORING, 1, took)
            cut: Facts = {}
            if timer.has_cut(trainer):
                cut = cut_facts(whole, limit, trainer.global_step, timer.planned)
                self.context.keys[name] = cut["fingerprint"]
                self.scoring.refile(name, scorers)
            elif rank_zero():
                for leftover in work_folder.glob(f"fit-{name}-*"):
                    shutil.rmtree(leftover, ignore_errors=True)
            loss = trainer.callback_metrics.get("train_loss")
            return {
                "samples": len(uids),
                "instructions": len(uids),
                **facts,
                **devices,
                "steps": trainer.global_step,
                **({} if loss is None else {"loss_last": round(float(loss), 4)}),
                **cut,
            }

        self.context.keys[name] = runner.stage(name, key, [folder], work, together=True)
        if rank_zero() and not (folder / CARD).exists():
            write_model_card(self.context.out, name, folder, stage=stage)

    def planned_work(self, name: str, n: int, *, stage: str, is_arm: bool) -> list[PlannedWork]:
        """What a fit will do: its steps, and the scoring of an arm.

        Args:
            name: of the model.
            n: number of samples.
            stage: whose overrides apply.
            is_arm: see `run`.
        """
        n += len(self.context.data.texts or ()) if is_arm else 0
        scored = is_arm and bool(self.context.plan.benchmarks)
        return [
            PlannedWork(name, self.kind(stage), self.planned_steps(stage, n)),
            *([PlannedWork(name, SCORING, 1)] if scored else []),
        ]

    def kind(self, stage: str) -> str:
        """Name the kind of a fit's steps: those of both stages go at one rate where their models agree."""
        return "fit" if self.same_pace else f"fit of {stage}"

    @cached_property
    def same_pace(self) -> bool:
        """Whether the stages `reference` and `final` tune the same model in the same way."""
        factory = self.context.factory
        paces = []
        for stage in ("reference", "final"):
            module, precision = factory.model(stage), factory.trainer_settings(stage)["precision"]
            own = [module.origin, module.tune, module.lora, module.quantization, module.dtype_name]
            paces.append([*own, module.gradient_checkpointing, precision])
        return bool(paces[0] == paces[1])

    def planned_steps(self, stage: str, n: int) -> float:
        """Compute the steps of a fit of so many samples; `trainer.max_steps` ends it earlier."""
        settings = self.context.factory.trainer_settings(stage)
        return fit_steps(settings, n, self.context.data.batch_size)

    def examine(self, stage: str) -> None:
        """Check that a stage trains something.

        Raises:
            UserError: it does not.
        """
        if self.context.factory.model(stage).tune == "none":
            raise UserError("model.tune is none, so nothing can be fitted; set it to lora or full")

    def keeps_moments(self, stage: str) -> bool:
        """Whether the moments of Adam are kept, for the gradients of the model that is tuned."""
        return stage == "reference" and self.context.plan.gradient_update == "adam"

    def warmup_checkpoints(self, stage: str) -> int:
        """Checkpoints of a fit whose gradients are taken, its end included."""
        return self.context.plan.warmup_checkpoints if stage == "reference" else 1

    def warm_up_callbacks(self, stage: str, folder: Path) -> list[SaveWarmUp]:
        """What saves the checkpoints before the end of a fit, if any is asked for."""
        count = self.warmup_checkpoints(stage)
        moments = self.keeps_moments(stage)
        return [SaveWarmUp(folder, count, moments=moments)] if count > 1 else []

    def trainer(self, stage: str, folder: Path, callbacks: Sequence[Callback]) -> Trainer:
        """Build the Trainer of a fit."""
        return self.context.factory.trainer(stage, folder, callbacks)

    def serve(
        self,
        name: str,
        uids: np.ndarray,
        *,
        stage: str,
        is_arm: bool,
        weights: Mapping[str, float] | None,
    ) -> Task:
        """Build the model, and serve the samples to its fit; see `run`."""
        plan, data = self.context.plan, self.context.data
        module = self.context.factory.model(stage)
        module.seed = plan.seed
        texts = data.texts if is_arm else None
        data.train_on(uids, module.processor, seed=plan.seed, texts=texts, weights=weights)
        self.report_left_out(name, uids, module.processor)
        facts: Facts = {
            **({"text_only": len(texts) - data.n_texts_without_answer} if texts else {}),
            **({"weights": data.weights} if weights else {}),
            **({"without_answer": n} if (n := data.n_without_answer) else {}),
            **({"texts_without_answer": n} if (n := data.n_texts_without_answer) else {}),
        }
        return Task(module, data, facts)

    def report_left_out(self, name: str, uids: np.ndarray, processor: Any) -> None:  # noqa: ANN401
        """Print how many samples and texts have no answer token left, and how many system prompts no place."""
        data = self.context.data
        kinds = {
            f"of {len(uids)} samples": data.n_without_answer,
            f"of {len(data.texts or ())} text-only records": data.n_texts_without_answer,
        }
        for kind, left_out in kinds.items():
            if left_out:
                self.context.runner.print(
                    f"[yellow]![/] {name:<12} {left_out} {kind} are not trained on: "
                    f"data.max_length {data.max_length} leaves them no answer token; raise it"
                )
        n = int(data.pool.has_system[data.pool.rows(uids)].sum())
        if n and not data.encoder(processor).has_system:
            self.context.runner.print(
                f"[yellow]![/] {n} samples bring a system prompt, and the template of this model "
                f"({data.template}) has no place for one: it is left out; data.template names another"
            )

    def key(
        self,
        name: str,
        uids: np.ndarray,
        *,
        stage: str,
        is_arm: bool,
        weights: Mapping[str, float] | None = None,
    ) -> str:
        """Name a fit by all that its result depends on, a time limit that cut it short included."""
        whole = self.whole(uids, stage=stage, is_arm=is_arm, weights=weights)
        return self.as_made(name, whole, self.context.factory.time_limit(stage))

    def as_made(self, name: str, whole: str, limit: TimeLimit) -> str:
        """Return the fingerprint of what lies there where the same limit has cut this fit short.

        With another limit, or none, it is to be continued.

        Args:
            name: of the model.
            whole: fingerprint of the fit to its end.
            limit: time limit of the fit now.
        """
        stage = self.context.runner.ledger.stage(name)
        same = stage.get("whole_fingerprint") == whole and stage.get("time_limit") == limit
        return str(stage["fingerprint"]) if same and stage["status"] == CUT_SHORT else whole

    def whole(
        self,
        uids: np.ndarray,
        *,
        stage: str,
        is_arm: bool,
        weights: Mapping[str, float] | None = None,
    ) -> str:
        """Name a fit to its end by all that its result depends on; see `run`."""
        data = self.context.data
        texts = data.texts if is_arm else None
        weighted = [data.weights, weights_digest(weights)] if weights else None
        module = self.context.factory.model(stage)
        return fingerprint(
            {
                "fit": 3,
                "model": module.fingerprint(),
                **self.division(module, rank_and_world()[1]),
                "trainer": self.context.factory.trainer_settings(stage),
                "data": [data.template, data.max_length, data.batch_size, data.pixels],
                "seed": self.context.plan.seed,
                "records": records_digest(data.pool, uids),
                **({"texts": texts.digest()} if texts else {}),
                **({"weights": weighted} if weighted else {}),
                **({"moments": 1} if self.keeps_moments(stage) else {}),
                **({"warm_up": n} if (n := self.warmup_checkpoints(stage)) > 1 else {}),
            }
        )

    def steps(self, n: int) -> int:
        """Compute the training steps of an arm of so many samples.

        Raises:
            UserError: the training is not limited by epochs.
        """
        epochs = self.context.factory.trainer_settings("final")["max_epochs"]
        if not epochs.isdecimal():
            raise UserError(
                f"equal is steps, but trainer.max_epochs is {epochs}; set it to the epochs of full data"
            )
        return int(epochs) * ceil(
            (n + len(self.context.data.texts or ())) / self.context.data.batch_size
        )

    def rests_on(self, world: int) -> Any:  # noqa: ANN401 - any JSON value
        """Name what the fits begin with and how they divide a batch over `world` processes."""
        models = [self.context.factory.model(stage) for stage in ("reference", "final")]
        return [{**model.fingerprint(), **self.division(model, world)} for model in models]

    def division(self, module: FineTune, world: int) -> dict[str, list[int | None]]:
        """How the passes divide a global batch, where the loss depends on it.

        A mean per device weighs the answer tokens of each pass alike, whatever the other passes
        hold. The global loss is the same however the batch is divided, but for rounding and for
        which activations dropout leaves out; neither is a reason to fit again.

        Args:
            module: of the fit.
            world: number of processes.
        """
        if module.loss_reduction == "global":
            return {}
        data = self.context.data
        return {"division": [data.micro_batch_size, data.passes(world), world]}


class FitClock(Callback):
    """Measures a fit up to its saved model; it is then scored, which is no part of it."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.end: float | None = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop where the model is saved."""
        self.end = time.perf_counter()

    def seconds(self) -> float:
        """Seconds from the start, up to now or to the end."""
        return (self.end or time.perf_counter()) - self.start


def cut_facts(whole: str, limit: TimeLimit, steps: int, planned: int) -> Facts:
    """Return what is recorded of a fit that its time limit has ended early."""
    return {
        "status": CUT_SHORT,
        "fingerprint": fingerprint({"cut": whole, "steps": steps}),
        "cut_short": f"after {steps} of {planned} steps by trainer.max_time {limit}",
        "steps_planned": planned,
        "time_limit": limit,
        "whole_fingerprint": whole,
    }
