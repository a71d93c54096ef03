"""The stages in their order: select, then train, then report; each from where it stopped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from rich.markup import escape

from presel_lightning.data.images import open_rgb
from presel_lightning.data.sizes import count_of
from presel_lightning.errors import InstructionsMissing
from presel_lightning.eval.report.loggers import log_report
from presel_lightning.eval.report.report import print_summary, write_report
from presel_lightning.export.model_card import write_cards
from presel_lightning.loading.truncation import items_of
from presel_lightning.models import hub
from presel_lightning.models.checkpoint import Checkpoint
from presel_lightning.recipe import artifacts
from presel_lightning.recipe.about import about, planned_stages
from presel_lightning.recipe.context import Context
from presel_lightning.recipe.examination import (
    LIMIT,
    examine_samples,
    few_references,
    refuse_items,
    refuse_several,
)
from presel_lightning.recipe.field_counts import field_counts
from presel_lightning.recipe.fits import Fits
from presel_lightning.recipe.instructions import Instructions
from presel_lightning.recipe.pair_fits import PairFits
from presel_lightning.recipe.pair_scoring import PairScoring
from presel_lightning.recipe.passes import Pass
from presel_lightning.recipe.plan import Plan, StageFactory
from presel_lightning.recipe.planned_work import plan_progress
from presel_lightning.recipe.pool_stage import read_pool
from presel_lightning.recipe.scoring import Scoring
from presel_lightning.recipe.suitability import empty_tasks, second_choice, unsuited
from presel_lightning.run.files import write_json
from presel_lightning.run.fingerprint import digest_lines, fingerprint
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.stages import Facts
from presel_lightning.run.versions import versions
from presel_lightning.selectors import Random
from presel_lightning.selectors.copies import select_once
from presel_lightning.selectors.near_copies import near_copy_warnings
from presel_lightning.signals import Features, PairedLoss
from presel_lightning.signals.base import require_samples
from presel_lightning.tasks.embed import AUTO_ENCODER


class Recipe:
    """PreSel's pipeline, or any other selector's, in one run folder.

    Args:
        plan: what the run is asked to do.
        factory: builds what a stage needs.
    """

    def __init__(self, plan: Plan, factory: StageFactory) -> None:
        self.plan, self.factory = plan, factory
        self.out, self.data = plan.out, plan.data
        self.context = Context(plan, factory)
        self.runner, self.keys = self.context.runner, self.context.keys
        self.instructions = Instructions(self.context)
        pairs = plan.two_tower is not None
        self.scoring = PairScoring(self.context) if pairs else Scoring(self.context)
        self.fits = Fits(self.context, self.scoring)
        self.arms = PairFits(self.context, self.scoring) if pairs else self.fits
        self.notices: list[str] = []
        self.passes = {name: kind(self.context, self.fits) for name, kind in Pass.known.items()}

    def begin(self, planned: Sequence[str] = ()) -> None:
        """Write down what defines the run as a whole.

        Args:
            planned: stages that the run will go through.
        """
        if rank_zero():
            self.runner.ledger.update(
                state="running",
                planned=list(planned),
                started=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
                about=about(self.plan, self.factory),
                seed=self.plan.seed,
                selector=type(self.plan.selector).__name__,
                needs=list(self.plan.selector.needs),
                full_scores=self.plan.full_scores,
                price_per_instruction=self.plan.price_per_instruction,
                price_per_gpu_hour=self.plan.price_per_gpu_hour,
                versions=versions(),
            )

    def fit(self) -> None:
        """Select, train on the selection, train the baselines, score all, report."""
        self.scoring.examine()
        selected = self.select(fits=["final"])
        weights = artifacts.read_weights(self.out)
        self.arms.run("final", selected, stage="final", is_arm=True, weights=weights)
        self.scoring.benchmark({"final": self.out / "models" / "final", **self.fit_baselines()})
        self.report()

    def select(self, fits: Collection[str] = ()) -> np.ndarray:
        """Everything up to the selection; uids of the reference and of what is added to it.

        Args:
            fits: stages that are fitted after the selection.
        """
        self.instructions.examine()
        needs = dict.fromkeys([*self.plan.selector.needs, *(self.arms.needs if fits else ())])
        encoder, models = self.models_of(needs, fits)
        self.reach_hub(encoder, models, needs)
        order = [each.signal.name for each in self.passes_of(needs)]
        stages = planned_stages(self.plan, order, fits)
        self.begin(stages)
        for each in self.passes_of(needs):
            each.examine()
        self.pool()
        self.examine_models(encoder, models, self.stages_of(needs, fits))
        reference = self.split()
        arms = self.arms if fits else None
        plan_progress(self.context, stages, self.passes_of(needs), arms, reference)
        self.make_signals(needs, reference)
        self.selection(reference)
        selected = artifacts.read_selected(self.out)
        try:
            self.instructions.require(selected, "selection")
        except InstructionsMissing:
            self.show_selection()
            raise
        if rank_zero():
            self.runner.ledger.update(state="selected", counts=self.counts())
            problems = self.runner.ledger.stage("pool")["problems"]
            left_out = f"; left out: {self.out / 'problems.csv'}" if problems else ""
            self.runner.print(f"selected: {self.out / 'selection' / 'selected.json'}{left_out}")
        if not fits:
            self.show_selection()
        return selected

    def show_selection(self) -> None:
        """Write the page of a run without a final fit: what was selected, to look at."""
        if rank_zero():
            self.runner.ledger.update(counts=self.counts())
            place = write_report(self.out, self.data.pool.image_root)
            self.runner.print(f"report: {place}")

    def evaluate(self, checkpoint: str) -> None:
        """Score one checkpoint on the benchmarks and print the scores."""
        self.reach_hub(None, [checkpoint])
        self.scoring.evaluate(checkpoint)

    def make_signals(self, needs: Collection[str], reference: np.ndarray) -> None:
        """Make these signals, those that rest on the reference split first.

        Raises:
            UserError: the reference split is too small for one of them.
            InstructionsMissing: one rests on the reference split, which has no instructions yet.
        """
        passes = self.passes_of(needs)
        if any(each.signal.on_reference for each in passes):
            require_samples(needs, len(reference), self.data.reference)
            self.instructions.require(reference, "reference split")
        for each in passes:
            each.make(reference)

    def passes_of(self, needs: Collection[str]) -> list[Pass]:
        """Return what makes these signals, those that rest on the reference split first."""
        wanted = [self.passes[name] for name in dict.fromkeys(needs)]
        return sorted(wanted, key=lambda each: not each.signal.on_reference)

    def prepare(self, signals: Collection[str]) -> None:
        """Draw the reference split and make signals, but select nothing; `compare` begins so."""
        self.reach_hub(*self.models_of(signals, []), signals)
        self.begin()
        for each in self.passes_of(signals):
            each.examine()
        self.pool()
        self.make_signals(signals, self.split())
        if rank_zero():
            self.runner.ledger.update(state="prepared")

    # ------------------------------------------------------------------ stages
    def pool(self) -> None:
        """Read the annotations, check every image, leave out what is broken."""
        read_pool(self.context, self.instructions)

    def stages_of(self, needs: Collection[str], fits: Collection[str]) -> list[str]:
        """Return the stages in which an image-text model is tuned, the reference model's among them."""
        tunes = any(self.passes[need].tunes for need in needs)
        return [*(fits if self.arms is self.fits else ()), *(["reference"] if tunes else [])]

    def models_of(
        self, needs: Collection[str], fits: Collection[str]
    ) -> tuple[str | None, list[Checkpoint]]:
        """Return the checkpoints that are loaded: of the image encoder, if any, and of the models.

        Args:
            needs: signals that are made.
            fits: stages that are fitted, besides the reference model of the signals.
        """
        stages = self.stages_of(needs, fits)
        encoder = self.factory.embed().checkpoint if Features.name in needs else None
        if encoder == AUTO_ENCODER:
            encoder = self.factory.encoder = broadcast(hub.available_encoder)
        fitted = [self.factory.model(stage).origin for stage in stages]
        return encoder, fitted + [m for need in needs for m in self.passes[need].models()]

    def reach_hub(
        self, encoder: str | None, models: list[Checkpoint], needs: Collection[str] = ()
    ) -> None:
        """See that the hub answers, or that its cache has what is needed; see `hub.reach_hub`."""
        others = {key: name for need in needs for key, name in self.passes[need].others().items()}
        if broadcast(lambda: hub.reach_hub(encoder, models, others)):
            hub.use_cache_alone()
            self.runner.print(f"[yellow]![/] {hub.obstacle()}: its cache is used")

    def examine_models(
        self, encoder: str | None, models: list[Checkpoint], stages: Sequence[str]
    ) -> None:
        """Examine what the fitted models make of the samples, before any of them is fitted.

        Warns of a shipped model that is used on images that it knows nothing of, too.

        Args:
            encoder: checkpoint of the image encoder, if any.
            models: checkpoints of the models.
            stages: stages that are fitted.
        """

        def examine() -> list[str]:
            warnings = second_choice(encoder, self.factory.encoder)
            warnings += unsuited(self.data.pool.image, encoder, models)
            return warnings + (self.examine_samples(stages[0]) if stages else [])

        self.notices = broadcast(examine)
        self.note(self.notices)

    def examine_samples(self, stage: str) -> list[str]:
        """Encode a random sample of the instructions as a stage's model will; return warnings."""
        data, pool = self.data, self.data.pool
        rows = np.flatnonzero(pool.has_instruction)
        if len(rows) > LIMIT:
            rows = np.random.default_rng(self.plan.seed).choice(rows, LIMIT, replace=False)
        items = list(items_of(pool, rows))
        encoder = data.encoder(self.factory.model(stage).processor)
        refuse_several(encoder, len(pool.several))
        refuse_items(encoder, self.plan.benchmarks)
        read = partial(open_rgb, max_pixels=data.max_pixels, pixels=data.pixels)
        return examine_samples(encoder, items, read)

    def note(self, notices: list[str]) -> None:
        """Print warnings; the run folder keeps all there are."""
        if rank_zero():
            self.runner.ledger.update(notices=self.notices)
        for notice in notices:
            self.runner.print(f"[yellow]![/] {escape(notice)}")

    def split(self) -> np.ndarray:
        """Draw the reference split; what an earlier round drew in this folder stays in it."""
        pool, data = self.data.pool, self.data
        count_of(data.budget, len(pool), "data.budget")
        uids = np.empty(0, dtype=object)
        if data.always_reference or data.needs_reference(self.plan.selector):
            seed = self.plan.seed
            earlier = (
                broadcast(lambda: self.context.rounds.reference(pool, seed)) if data.extend else []
            )
            uids = data.split_reference(seed, earlier, self.context.decisions)
        data.pool = pool.with_reference(uids)
        self.instructions.write_reference(uids)
        if len(uids):
            own = pool.task[pool.rows(uids)]
            few = few_references({task: int((own == task).sum()) for task in pool.tasks})
            self.notices += few
            self.note(few)
        return uids

    def selection(self, reference: np.ndarray) -> None:
        """Choose, on the first process, and write down what was chosen and why."""
        plan, pool = self.plan, self.data.pool
        budget = count_of(self.data.budget, len(pool), "data.budget")
        method = fingerprint([plan.selector_spec, plan.selector.fingerprint(), plan.seed])
        decisions = self.context.decisions.among(pool.uid)
        reviewed = digest_lines(decisions.lines()) if decisions else None
        earlier: list[str] = []
        if self.data.extend:
            rounds, vetoed = self.context.rounds, decisions.vetoed
            earlier = broadcast(lambda: rounds.selected(pool, method, budget, vetoed))
        signals = self.context.signals
        known = broadcast(lambda: self.known_signals(reference))
        key = self.keys["selection"] = fingerprint(
            {
                "selection": 3,
                "method": method,
                "signals": known,
                "pool": digest_lines(map(" ".join, zip(pool.uid, pool.task, strict=True))),
                "reference": digest_lines(reference),
                "earlier": digest_lines(earlier),
                "budget": budget,
                **({"count": self.data.count_key} if self.data.count_key else {}),
                **self.copies_key(),
                **({"review": reviewed} if reviewed else {}),
            }
        )
        names = ("selection.parquet", "tasks.csv", "manifest.json")
        files = [self.out / "selection" / name for name in names]

        def work() -> Facts:
            selection = self.data.select(
                plan.selector, signals, earlier, seed=plan.seed, decisions=decisions
            )
            review = selection.meta.get("review", {})
            manifest = {"method": plan.selector_spec, "seed": plan.seed, "versions": versions()}
            manifest |= {"review": review} if review else {}
            artifacts.write_manifest(self.out, pool, selection, manifest)
            irs = signals.of(PairedLoss).irs_by_task(pool) if PairedLoss.name in known else {}
            artifacts.write_selection(self.out, pool, selection, irs)
            if found := selection.meta.get("method"):
                write_json(self.out / "selection" / "method.json", found)
            best_first = np.argsort(selection.rank[pool.rows(selection.uids)], kind="stable")
            self.context.rounds.add(method, budget, selection.uids[best_first].tolist())
            kept = {"kept_of_earlier": len(earlier)} if len(earlier) else {}
            warnings = [*selection.meta.get("warnings", []), *empty_tasks(pool, selection.uids)]
            if Features.name in plan.selector.needs:
                warnings += near_copy_warnings(pool, signals, selection, seed=plan.seed)
            shown: Facts = {"warnings": warnings, "decisions": reviewed}
            shown["length_correlation"] = selection.meta.get("length_correlation")
            if key := self.data.count_key:
                shown["field_counts"] = field_counts(pool, selection.uids, key)
            shown = {name: fact for name, fact in shown.items() if fact}
            return {"samples": len(selection.uids), "pool": len(pool), **kept, **review, **shown}

        self.runner.stage("selection", key, files, work)
        for warning in self.runner.ledger.stage("selection").get("warnings", []):
            self.runner.print(f"[yellow]![/] {escape(warning)}")

    def copies_key(self) -> Facts:
        """What the copies of the pool add to the key of a selection; nothing where there are none."""
        later = self.data.left_out_copies()
        return {"copies": digest_lines(self.data.pool.uid[later])} if later.any() else {}

    def known_signals(self, reference: np.ndarray) -> dict[str, str]:
        """Keys of the signals that lie there and that this run has made, or would make the same."""
        keys = {name: each.made(reference) for name, each in self.passes.items()}
        return {name: key for name, key in keys.items() if key is not None}

    def fit_baselines(self) -> dict[str, Path | None]:
        """Train the arms that stand beside the final one, as far as their instructions exist."""
        pool, plan = self.data.pool, self.plan
        budget = count_of(self.data.budget, len(pool), "data.budget")
        draw = select_once(
            Random(),
            pool.with_reference([]),
            self.context.signals,
            budget,
            seed=plan.seed,
            copies=self.data.copies,
        )
        candidates = {"random": draw.uids, "full": pool.uid}
        arms: dict[str, Path | None] = {}
        left_out: dict[str, str] = {}
        for arm in plan.baselines:
            if arm == "untrained":
                arms[arm] = None
                self.keys[arm] = self.scoring.key_of_untrained()
                continue
            missing = int((~pool.has_instruction[pool.rows(candidates[arm])]).sum())
            if missing:
                left_out[arm] = (
                    f"{missing} of its {len(candidates[arm])} images have no instruction"
                )
                self.runner.print(f"[yellow]![/] {arm:<12} left out: {left_out[arm]}")
                continue
            self.arms.run(arm, candidates[arm], stage="final", is_arm=True)
            arms[arm] = self.out / "models" / arm
        if rank_zero():
            self.runner.ledger.update(arms_left_out=left_out)
        return arms

    def report(self) -> None:
        """Write the page; nothing to do where no stage had to work."""
        if not rank_zero():
            return
        self.runner.ledger.update(state="reporting", counts=self.counts())
        write_report(self.out, self.data.pool.image_root)
        write_cards(self.out, ["final", *self.plan.baselines])
        self.runner.ledger.update(state="done")  # now: `compare` takes such a run as it is
        log_report(self.factory.loggers(), self.out, self.data.pool.image_root)
        print_summary(self.out)

    def counts(self) -> dict[str, int]:
        """How many samples there are of each kind."""
        pool, stages = self.data.pool, self.runner.ledger.read()["stages"]
        reference = int(pool.reference.sum())
        added = stages["selection"]["samples"]
        return {
            "pool": len(pool),
            "tasks": len(pool.tasks),
            "text_only": stages["pool"]["text_only"],
            "text_only_trained_on": len(self.data.texts or ()),
            "problems": stages["pool"]["problems"],
            "reference": reference,
            **({"held_out": len(held)} if (held := self.context.held_out) is not None else {}),
            "selected": added,
            "trained_on": reference + added,
        }
