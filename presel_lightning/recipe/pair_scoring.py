"""Arms of image-text pairs, scored by retrieval on pairs that none of them is trained on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from presel_lightning.callbacks import Benchmark
from presel_lightning.callbacks.benchmark import as_json
from presel_lightning.data.build import build_pool, manifest_path, pool_key
from presel_lightning.data.pool import Pool
from presel_lightning.data.source import PoolSource
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.base import Answer, Score
from presel_lightning.eval.benchmarks.predictions import (
    answers_table,
    predictions_path,
    write_predictions,
)
from presel_lightning.eval.benchmarks.retrieval import (
    NAMES,
    WAYS,
    Retrieved,
    gap_of,
    retrieval_scores,
    retrieved_first,
)
from presel_lightning.loading.datasets import text_of_pair
from presel_lightning.recipe.artifacts import records_digest
from presel_lightning.recipe.beside import embedded, opened, pairs_of, refuse_empty, source_beside
from presel_lightning.recipe.pair_fits import vectors_by
from presel_lightning.recipe.plan import Plan, TwoTowerKeys
from presel_lightning.recipe.scoring import Scoring
from presel_lightning.run.files import read_json, write_json
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.stages import Facts
from presel_lightning.signals import ClipSimilarity, Signals
from presel_lightning.tasks import TwoTower

TEST = "test"
"""Stage and folder of the test pairs."""


@dataclass
class RetrievalScores:
    """The file of an arm's scores, as `Benchmark` writes it."""

    path: Path
    key: str
    predictions: Path

    def done(self) -> bool:
        """Return whether the file holds the scores of this model on these pairs."""
        return self.path.exists() and read_json(self.path)["key"] == self.key

    def kept(self) -> dict[str, dict[str, Any]]:
        """Return the entry of every benchmark."""
        found: dict[str, dict[str, Any]] = read_json(self.path)["benchmarks"]
        return found


class PairScoring(Scoring):
    """Scores arms by Recall@1, 5 and 10, both ways.

    The arm `untrained` is the encoder itself, without heads.
    """

    @property
    def own(self) -> TwoTowerKeys:
        """Options of the setting."""
        return self.plan.two_tower or TwoTowerKeys()

    @property
    def names(self) -> list[str]:
        """Names of the benchmarks."""
        return list(NAMES)

    def callbacks(self, arm: str) -> list[Benchmark]:
        """None: an arm is scored when all are trained."""
        return []

    def refile(self, arm: str, scorers: Iterable[Benchmark]) -> None:
        """Nothing has been scored yet."""

    def examine(self) -> None:
        """Read what the arms will be scored on before anything is trained.

        Raises:
            UserError: benchmarks of a language model are asked for, the test file cannot be read.
        """
        refuse_benchmarks(self.plan)
        if (given := self.source()) is not None:
            refuse_empty(given, f"two_tower.test {self.own.test}")
        self.examine_full()

    def source(self) -> PoolSource | None:
        """The test file, if one is named."""
        given = self.own.test
        return None if given is None else source_beside(self.data, "two_tower.test", given)

    @cached_property
    def pool(self) -> Pool:
        """The test samples, read by the first that asks where a file holds them."""
        given, folder = self.source(), self.out / TEST
        if given is None:
            assert self.context.held_out is not None
            return self.context.held_out

        def work() -> Facts:
            folder.mkdir(parents=True, exist_ok=True)
            counts = build_pool(given, folder)
            return {"samples": counts.pool, "problems": counts.problems}

        self.runner.stage("test_pool", pool_key(given), [manifest_path(folder)], work)
        return opened(given, folder, f"two_tower.test {self.own.test}")

    @cached_property
    def test_key(self) -> str:
        """Name the test pairs and their vectors."""
        pool = self.pool
        records = records_digest(pool, pool.uid[pairs_of(pool)])
        return fingerprint({"test": 1, "records": records, "vectors": vectors_by(self.context)})

    @property
    def vectors(self) -> ClipSimilarity:
        """Vectors of the test pairs."""
        return Signals(self.out / TEST / "signals").of(ClipSimilarity)

    def prepare(self) -> None:
        """Embed the test pairs."""
        pool, signal = self.pool, self.vectors
        has = pairs_of(pool)

        def work() -> Facts:
            folder = self.out / "work" / f"{TEST}-{self.test_key}-{self.data.block_size}"
            found = embedded(self.context, pool, folder)
            if rank_zero():
                signal.write(pool, has, found, {"key": self.test_key})
                for leftover in folder.parent.glob(f"{TEST}-*"):
                    shutil.rmtree(leftover, ignore_errors=True)
            n = len(np.unique(pool.image_digest[has]))
            return {"samples": int(has.sum()), "pictures": n}

        key = broadcast(lambda: self.test_key)
        self.runner.stage(TEST, key, [signal.path], work, together=True)

    def key_of_untrained(self) -> str:
        """Name the encoder."""
        return broadcast(lambda: fingerprint({"encoder": vectors_by(self.context)}))

    def scorer(self, arm: str) -> RetrievalScores:  # type: ignore[override]
        """The scores of one arm."""
        key = fingerprint([self.keys[arm], self.test_key])
        return RetrievalScores(self.scores_of(arm), key, predictions_path(self.out, arm))

    def score(self, checkpoint: str | Path | None, scorer: RetrievalScores) -> Facts:  # type: ignore[override]
        """Score a probe on disk, or the encoder itself, on the first process.

        Args:
            checkpoint: folder of the probe; None for the encoder.
            scorer: what is written.
        """
        if rank_zero():
            start = time.perf_counter()
            scores = self.measured(None if checkpoint is None else TwoTower.load(checkpoint))
            took = round((time.perf_counter() - start) / len(scores), 3)
            entries = {
                n: {**as_json(s), **gap_of(s.tasks), "seconds": took} for n, s in scores.items()
            }
            tables = {
                name: answers_table(name, score.answers or []) for name, score in scores.items()
            }
            write_predictions(scorer.predictions, scorer.key, tables)
            write_json(scorer.path, {"key": scorer.key, "benchmarks": entries})
        return {}

    @torch.no_grad()
    def measured(self, probe: TwoTower | None) -> dict[str, Score]:
        """Retrieve by a probe, or by the vectors of the encoder; score, and keep what came first."""
        pool = self.pool
        rows = np.flatnonzero(pairs_of(pool))
        image, text = (self.side(probe, rows, side) for side in ("image", "text"))
        known = (image.isfinite().all(dim=1) & text.isfinite().all(dim=1)).numpy()
        rows, image, text = rows[known], image[known], text[known]
        groups = [group_of(pool, row, self.data.task_key) for row in rows.tolist()]
        picture, names = pool.image_digest[rows], pool.uid[rows].tolist()
        scores = retrieval_scores(image, text, picture, names, groups)
        first = retrieved_first(image, text, picture)
        texts = [text_of_pair(pool, row) for row in rows.tolist()]
        images = pool.image[rows].tolist()
        sides = {"image_to_text": (images, texts), "text_to_image": (texts, images)}
        return {
            name: replace(
                score, answers=answers_of(score, first[way], *sides[way], pool.task[rows])
            )
            for way in WAYS
            for name, score in scores.items()
            if name.startswith(way)
        }

    def side(self, probe: TwoTower | None, rows: np.ndarray, side: str) -> Tensor:
        """Vectors of one side of some test pairs, (n, D)."""
        vectors = torch.from_numpy(self.vectors.read(self.pool, rows, side))
        return vectors if probe is None else probe(side, vectors)

    def evaluate(self, checkpoint: str) -> None:
        """Refuse: probes are scored by the run that trains them.

        Raises:
            UserError: always.
        """
        raise UserError(
            "evaluate scores image-text models; the arms of two_tower are scored by `fit` and `compare`"
        )


def answers_of(
    score: Score,
    first: Retrieved,
    queries: Sequence[str],
    candidates: Sequence[str],
    tasks: np.ndarray,
) -> list[Answer]:
    """Return what each query retrieved first, beside what its own pair has; images by their paths.

    Args:
        score: of Recall@K, with a credit for each query.
        first: what was retrieved first, as rows of the pairs.
        queries: (N,) text or image of each pair, of the side that asks.
        candidates: (N,) those of the other side.
        tasks: (N,) task of each pair.
    """
    return [
        Answer(uid, str(tasks[query]), queries[query], candidates[query], candidates[best], credit)
        for uid, query, best, credit in zip(
            score.item_ids or [],
            first.query.tolist(),
            first.first.tolist(),
            score.items or [],
            strict=True,
        )
    ]


def refuse_benchmarks(plan: Plan) -> None:
    """Refuse benchmarks that need a language model.

    Raises:
        UserError: some are configured.
    """
    if plan.benchmarks:
        named = ", ".join(benchmark.name for benchmark in plan.benchmarks)
        raise UserError(
            f"benchmarks: {named} are answered by a language model, and with two_tower there is none: "
            "set benchmarks to [], or two_tower to null"
        )


def group_of(pool: Pool, row: int, key: str) -> str | None:
    """Return the group that a record itself names, by its field `data.task_key`; None where it has none."""
    found = pool.record(row).get(key)
    return None if found in (None, "") else str(found)
