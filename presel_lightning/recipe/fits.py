"""The fit of one arm: the same module for the reference and for what was chosen."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from lightning import Callback, seed_everything

from presel_lightning.callbacks import SaveModel, StepCheckpoint
from presel_lightning.errors import UserError
from presel_lightning.recipe.artifacts import weights_digest
from presel_lightning.recipe.instructions import Instructions
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.stages import Facts, devices_of

UNSCORED = ("reference", "held_out_a", "held_out_b")
"""Models that choose rather than compete."""


class Fitting(Instructions):
    """What a recipe needs to tune the pre-instruction checkpoint on some samples."""

    def fit_model(
        self,
        name: str,
        uids: np.ndarray,
        stage: str,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Tune the pre-instruction checkpoint on some samples, for one arm.

        Args:
            name: of the arm.
            uids: the samples.
            stage: whose model and trainer it takes.
            weights: training weights other than 1, by uid.
        """
        module = self.factory.model(stage)
        module.seed = self.plan.seed
        if module.tune == "none":
            raise UserError("model.tune is none, so nothing can be fitted; set it to lora or full")
        folder = self.out / "models" / name
        texts = None if name in UNSCORED else self.data.texts
        key = self.keys[name] = self.key_of_fit(name, uids, stage, weights)

        def work() -> Facts:
            seed_everything(self.plan.seed, verbose=False)
            self.data.train_on(
                uids, module.processor, seed=self.plan.seed, texts=texts, weights=weights
            )
            scorer = self.scorer(name)
            callbacks: list[Callback] = [
                saver := StepCheckpoint(every_n_train_steps=self.plan.checkpoint_every),
                SaveModel(folder),
                *([] if name in UNSCORED else [scorer]),
            ]
            trainer = self.factory.trainer(stage, self.out / "logs" / name, callbacks)
            passes = trainer.accumulate_grad_batches = self.data.passes(trainer.world_size)
            # Lightning counts passes: with another number of them a fit begins again
            checkpoints = self.out / "work" / f"fit-{name}-{key}-{passes}"
            saver.dirpath = str(checkpoints)
            start = time.perf_counter()
            trainer.fit(
                module, datamodule=self.data, ckpt_path=broadcast(lambda: newest(checkpoints))
            )
            took = time.perf_counter() - start - scorer.seconds()
            if rank_zero():
                for leftover in (self.out / "work").glob(f"fit-{name}-*"):
                    shutil.rmtree(leftover, ignore_errors=True)
            loss = trainer.callback_metrics.get("train_loss")
            return {
                "samples": len(uids),
                "instructions": len(uids),
                **({"text_only": len(texts)} if texts else {}),
                **({"weights": self.data.weights} if weights else {}),
                **devices_of(trainer),
                "steps": trainer.global_step,
                "fit_seconds": round(took, 3),
                **({} if loss is None else {"loss_last": round(float(loss), 4)}),
            }

        self.runner.stage(name, key, [folder], work, together=True)

    def key_of_fit(
        self,
        name: str,
        uids: np.ndarray,
        stage: str,
        weights: Mapping[str, float] | None = None,
    ) -> str:
        """Name a fit by all that its result depends on; see `fit_model`."""
        weighted = [self.data.weights, weights_digest(weights)] if weights else None
        texts = None if name in UNSCORED else self.data.texts
        return fingerprint(
            {
                "fit": 2,
                "model": self.factory.model(stage).fingerprint(),
                "trainer": self.factory.trainer_settings(stage),
                "data": [self.data.template, self.data.max_length, self.data.batch_size],
                "seed": self.plan.seed,
                "records": self.records_digest(uids),
                **({"texts": texts.digest()} if texts else {}),
                **({"weights": weighted} if weighted else {}),
            }
        )


def newest(folder: Path) -> Path | None:
    """The last training checkpoint of a fit that was cut short."""
    # DeepSpeed's is a folder, whole once it names its latest part
    whole = (p for p in folder.glob("*.ckpt") if p.is_file() or (p / "latest").is_file())
    found = sorted(whole, key=lambda path: path.stat().st_mtime_ns)
    return found[-1] if found else None
