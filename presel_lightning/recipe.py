"""The stages in their order: select, then train, then report; each from where it stopped."""

from __future__ import annotations

import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, Trainer, seed_everything

from presel_lightning import __version__, artifacts
from presel_lightning.callbacks import BlockWriter, SaveModel, StepCheckpoint
from presel_lightning.console import console, track
from presel_lightning.data import build_pool, images_changed, load_pool
from presel_lightning.datamodule import count_of
from presel_lightning.errors import InstructionsMissing, UserError
from presel_lightning.eval.irs import IRSLoop
from presel_lightning.eval.report import print_summary, write_report
from presel_lightning.models.processor import load_image_processor
from presel_lightning.ranks import agree, rank_zero
from presel_lightning.runner import Facts
from presel_lightning.scoring import Scoring
from presel_lightning.selectors import Random
from presel_lightning.signals import FEATURES
from presel_lightning.store import digest_lines, fingerprint

VERSIONS = ("torch", "lightning", "transformers", "peft", "numpy", "pyarrow")
"""Packages that a result may depend on."""


class Recipe(Scoring):
    """PreSel's pipeline, or any other selector's, in one run folder."""

    def begin(self) -> None:
        """Write down what defines the run as a whole."""
        if rank_zero():
            self.runner.ledger.update(
                state="running",
                seed=self.plan.seed,
                selector=type(self.plan.selector).__name__,
                versions={"presel_lightning": __version__} | {v: version(v) for v in VERSIONS},
            )

    def fit(self) -> None:
        """Select, train on the selection, train the baselines, score all, report."""
        self.full = self.examine_benchmarks()
        selected = self.select()
        self.fit_model("final", selected, stage="final")
        self.benchmark({"final": self.out / "models" / "final", **self.fit_baselines()})
        self.report()

    def select(self) -> np.ndarray:
        """Everything up to the selection; uids of the reference and of what is added to it."""
        self.begin()
        self.pool()
        reference = self.split()
        if len(reference):
            self.require_instructions(reference, "reference split")
            self.fit_model("reference", reference, stage="reference")
            self.losses(reference)
        if FEATURES in self.plan.selector.needs:
            self.features()
        self.selection(reference)
        selected = artifacts.read_selected(self.out)
        self.require_instructions(selected, "selection")
        if rank_zero():
            self.runner.ledger.update(state="selected", counts=self.counts())
            problems = self.runner.ledger.stage("pool")["problems"]
            left_out = f"; left out: {self.out / 'problems.csv'}" if problems else ""
            self.runner.tell(f"selected: {self.out / 'selection' / 'selected.json'}{left_out}")
        return selected

    # ------------------------------------------------------------------ stages
    def pool(self) -> None:
        """Read the annotations, check every image, leave out what is broken."""
        source = self.data.source(self.out)
        manifest = self.out / "pool.parquet"
        if rank_zero() and manifest.exists() and images_changed(self.out, source.image_root):
            self.runner.ledger.record("pool", status="stale")  # an image was mended or lost

        def work() -> Facts:
            counts = build_pool(source, self.out, track=track)
            facts = {"samples": counts.pool, "text_only": counts.text_only}
            return {**facts, "problems": counts.problems, "by_problem": counts.by_problem}

        files = [manifest, self.out / "problems.csv"]
        self.runner.stage("pool", fingerprint({"pool": 1, **source.fingerprint()}), files, work)
        self.refuse_problems(self.runner.ledger.stage("pool"))
        self.data.pool = load_pool(self.out, source.image_root)

    def refuse_problems(self, counts: dict[str, Any]) -> None:
        """Stop before any training where too little of the annotations can be used.

        Raises:
            UserError: more problems than `data.max_problem_fraction` allows, or no sample at all.
        """
        records = counts["samples"] + counts["text_only"] + counts["problems"]
        if counts["problems"] > self.data.max_problem_fraction * records:
            kinds = ", ".join(f"{n} {kind}" for kind, n in counts["by_problem"].items())
            raise UserError(
                f"{counts['problems']} of {records} records have problems ({kinds}), more than "
                f"data.max_problem_fraction {self.data.max_problem_fraction} allows; they are "
                f"listed in {self.out / 'problems.csv'}: mend them or raise the limit"
            )
        if counts["samples"] == 0:
            raise UserError(
                f"data.annotations {self.data.annotations} holds no image record; give a JSON list "
                "(or JSON lines) of LLaVA records, or a folder of folders of images"
            )

    def split(self) -> np.ndarray:
        """Draw the reference split and write `reference.json`."""
        pool, data = self.data.pool, self.data
        count_of(data.budget, len(pool), "data.budget")
        needed = data.needs_reference(self.plan.selector)
        uids = data.split_reference(self.plan.seed) if needed else np.empty(0, dtype=object)
        data.pool = pool.with_reference(uids)

        def work() -> Facts:
            artifacts.write_llava(self.out / "reference.json", pool, uids)
            return {"samples": len(uids)}

        key = fingerprint({"split": 1, "records": self.records_digest(uids)})
        self.runner.stage("split", key, [self.out / "reference.json"], work)
        return uids

    def fit_model(self, name: str, uids: np.ndarray, stage: str) -> None:
        """Tune the pre-instruction checkpoint on some samples, for one arm."""
        module = self.parts.model(stage)
        module.seed = self.plan.seed
        if module.tune == "none":
            raise UserError("model.tune is none, so nothing can be fitted; set it to lora or full")
        folder = self.out / "models" / name
        key = self.keys[name] = fingerprint(
            {
                "fit": 1,
                "model": module.fingerprint(),
                "trainer": self.parts.trainer_settings(stage),
                "data": [self.data.template, self.data.max_length, self.data.batch_size],
                "seed": self.plan.seed,
                "records": self.records_digest(uids),
            }
        )

        def work() -> Facts:
            seed_everything(self.plan.seed, verbose=False)
            self.data.train_on(uids, module.processor, seed=self.plan.seed)
            scorer = self.scorer(name)
            callbacks: list[Callback] = [
                saver := StepCheckpoint(every_n_train_steps=self.plan.checkpoint_every),
                SaveModel(folder),
                *([] if name == "reference" else [scorer]),
            ]
            trainer = self.parts.trainer(stage, self.out / "logs" / name, callbacks)
            passes = trainer.accumulate_grad_batches = self.data.passes(trainer.world_size)
            # Lightning counts passes: with another number of them a fit begins again
            checkpoints = self.out / "work" / f"fit-{name}-{key}-{passes}"
            saver.dirpath = str(checkpoints)
            start = time.perf_counter()
            trainer.fit(module, datamodule=self.data, ckpt_path=newest(checkpoints))
            took = time.perf_counter() - start - scorer.seconds()
            if rank_zero():
                for leftover in (self.out / "work").glob(f"fit-{name}-*"):
                    shutil.rmtree(leftover, ignore_errors=True)
            loss = trainer.callback_metrics.get("train_loss")
            return {
                "samples": len(uids),
                "instructions": len(uids),
                **devices_of(trainer),
                "steps": trainer.global_step,
                "fit_seconds": round(took, 3),
                **({} if loss is None else {"loss_last": round(float(loss), 4)}),
            }

        self.runner.stage(name, key, [folder], work, together=True)

    def losses(self, reference: np.ndarray) -> None:
        """The IRS loop over the reference split."""
        model = self.trained("losses", self.out / "models" / "reference")
        key = self.keys["losses"] = fingerprint(
            {
                "losses": 1,
                "model": self.keys["reference"],
                "how": [model.dtype_name, str(model.quantization), self.precision("losses")],
            }
        )

        def work() -> Facts:
            trainer = self.parts.trainer("losses", self.out / "logs" / "losses")
            blocks = f"{self.data.block_size}-{self.data.block_tokens}"
            loop = IRSLoop(self.out / "work" / f"losses-{key}-{blocks}")
            table = loop.run(trainer, model, self.data, reference)
            if rank_zero():
                self.signals.write_paired_loss(table)
                shutil.rmtree(loop.folder, ignore_errors=True)
            undefined = table["irs"].null_count
            facts = {"samples": len(reference), **devices_of(trainer)}
            return {**facts, **({"undefined": undefined} if undefined else {})}

        files = [self.signals.paired_loss_path]
        self.runner.stage("losses", key, files, work, together=True)

    def features(self) -> None:
        """Embed every distinct image once."""
        module = self.parts.embed()
        images, place = np.unique(self.data.pool.image, return_inverse=True)
        paths = [self.data.pool.image_root / image for image in images]
        sizes = dict(zip(self.data.pool.image, self.data.pool.image_bytes, strict=True))
        what = digest_lines(f"{image} {sizes[image]}" for image in images)
        key = self.keys["features"] = fingerprint(
            {
                "features": 1,
                "encoder": [module.fingerprint(), self.precision("features")],
                "images": what,
            }
        )

        def work() -> Facts:
            folder = self.out / "work" / f"features-{key}-{self.data.block_size}"
            blocks = self.data.show(paths, load_image_processor(module.checkpoint))
            writer = BlockWriter(folder, blocks)
            trainer = self.parts.trainer("features", self.out / "logs" / "features")
            if pending := agree(writer.pending):
                trainer.callbacks.append(writer)  # type: ignore[attr-defined]
                self.data.serve(pending)
                trainer.predict(module, datamodule=self.data, return_predictions=False)
                trainer.strategy.barrier("features")
            if rank_zero():
                unique = writer.merge()["features"]
                meta = {"encoder": module.checkpoint, "fingerprint": key}
                self.signals.write_features(self.data.pool.uid, unique, place, meta)
                shutil.rmtree(folder, ignore_errors=True)
            return {"images": len(images), **devices_of(trainer)}

        files = [self.signals.features_path]
        # samples may share an image, so the rows depend on more than the images
        rows = fingerprint([key, digest_lines(self.data.pool.uid)])
        self.runner.stage("features", rows, files, work, together=True)

    def selection(self, reference: np.ndarray) -> None:
        """Choose, on the first process, and write down what was chosen and why."""
        plan, pool = self.plan, self.data.pool
        key = self.keys["selection"] = fingerprint(
            {
                "selection": 1,
                "selector": [plan.selector_spec, plan.selector.fingerprint()],
                "signals": [self.keys.get(need) for need in ("losses", "features")],
                "pool": digest_lines(map(" ".join, zip(pool.uid, pool.task, strict=True))),
                "reference": digest_lines(reference),
                "budget": count_of(self.data.budget, len(pool), "data.budget"),
                "seed": plan.seed,
            }
        )
        files = [self.out / "selection" / name for name in ("selection.parquet", "tasks.csv")]

        def work() -> Facts:
            selection = self.data.select(plan.selector, self.signals, seed=plan.seed)
            artifacts.write_selection(self.out, pool, selection, self.signals)
            return {"samples": len(selection.uids), "pool": len(pool)}

        self.runner.stage("selection", key, files, work)

    def require_instructions(self, uids: np.ndarray, what: str) -> None:
        """Write what is chosen for any trainer, and what is missing for an annotator.

        Raises:
            InstructionsMissing: some of these samples have no instruction yet.
        """
        pool = self.data.pool
        missing = uids[~pool.has_instruction[pool.rows(uids)]]
        requests = self.out / "selection" / "requests.jsonl"

        def work() -> Facts:
            artifacts.write_requests(requests, pool, missing, what)
            if what == "selection":
                artifacts.write_llava(self.out / "selection" / "selected.json", pool, uids)
            return {"samples": len(uids), "missing": len(missing)}

        if what == "selection" or len(missing):
            key = fingerprint({"instructions": what, "records": self.records_digest(uids)})
            selected = self.out / "selection" / "selected.json"
            files = [requests, *([selected] if what == "selection" else [])]
            self.runner.stage("instructions", key, files, work)
        if len(missing):
            if rank_zero():
                self.runner.ledger.update(state="waiting")
            raise InstructionsMissing(
                f"{len(missing)} of {len(uids)} images of the {what} have no instruction yet; they "
                f"are listed in {requests}: add their `conversations` to the annotation file (for a "
                "folder of images docs/pool.md shows how to make one) and run the same command again"
            )

    def fit_baselines(self) -> dict[str, Path | None]:
        """Train the arms that stand beside the final one, as far as their instructions exist."""
        pool, plan = self.data.pool, self.plan
        budget = count_of(self.data.budget, len(pool), "data.budget")
        draw = Random().select(pool.with_reference([]), self.signals, budget, seed=plan.seed)
        candidates = {"random": draw.uids, "full": pool.uid}
        arms: dict[str, Path | None] = {}
        left_out: dict[str, str] = {}
        for arm in plan.baselines:
            if arm == "untrained":
                arms[arm] = None
                self.keys[arm] = fingerprint(self.parts.model("final").fingerprint())
                continue
            missing = int((~pool.has_instruction[pool.rows(candidates[arm])]).sum())
            if missing:
                left_out[arm] = (
                    f"{missing} of its {len(candidates[arm])} images have no instruction"
                )
                self.runner.tell(f"[yellow]![/] {arm:<12} left out: {left_out[arm]}")
                continue
            self.fit_model(arm, candidates[arm], stage="final")
            arms[arm] = self.out / "models" / arm
        if rank_zero():
            self.runner.ledger.update(arms_left_out=left_out)
        return arms

    def report(self) -> None:
        """Write the page; nothing to do where no stage had to work."""
        if not rank_zero():
            return
        self.runner.ledger.update(state="done", counts=self.counts())
        write_report(self.out)
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
            "problems": stages["pool"]["problems"],
            "reference": reference,
            "selected": added,
            "trained_on": reference + added,
        }

    def check(self, **options: Any) -> None:  # noqa: ANN401 - see `check`
        """Examine everything that a run leans on, without training."""
        from presel_lightning.check import check

        check(self.plan, self.parts, console, **options)

    def records_digest(self, uids: np.ndarray) -> str:
        """Name samples by what a fit sees of them: uid, size of the image file, conversation."""
        pool = self.data.pool
        rows = np.sort(pool.rows(uids))
        return digest_lines(
            f"{pool.uid[row]} {pool.image_bytes[row]} {pool.sample(row).turns}" for row in rows
        )

    def precision(self, stage: str) -> str:
        """What a pass of a stage computes in."""
        return str(self.parts.trainer_settings(stage)["precision"])


def devices_of(trainer: Trainer) -> Facts:
    """What a stage was computed on."""
    return {"device": trainer.strategy.root_device.type, "devices": trainer.world_size}


def newest(folder: Path) -> Path | None:
    """The last training checkpoint of a fit that was cut short."""
    found = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    return found[-1] if found else None
