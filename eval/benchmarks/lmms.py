"""lmms-eval in this process, on the model in memory: built-in tasks, or those of a folder."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import fsum, isfinite, nan
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist
from PIL import ImageFile

from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.base import Answer
from presel_lightning.eval.benchmarks.columns import COLUMNS, Column
from presel_lightning.eval.benchmarks.lmms_answers import answers_of
from presel_lightning.eval.benchmarks.model_benchmark import (
    LiveModel,
    ModelBenchmark,
    PartialScore,
    SharedFailure,
    describe,
    environment,
    share,
)
from presel_lightning.run.fingerprint import digest_folder
from presel_lightning.run.pages import page
from presel_lightning.run.ranges import Count, Positive, Tokens
from presel_lightning.run.ranks import broadcast, rank_zero

PINNED = "0.7.3"
"""The version whose behavior `lmms_model` relies on."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """One score: a task and one of its metrics.

    Attributes:
        name: key of the score.
        task: task of lmms-eval.
        metric: metric of the task; None is its first.
        scale: factor of the metric.
        column: column of the paper's tables, if it is one.
    """

    name: str
    task: str
    metric: str | None
    scale: Positive
    column: Column | None = None


class Found(NamedTuple):
    """Result of a task.

    Attributes:
        score: score in the unit of its target.
        n: number of items.
        credits: credits of the items by id, as fractions of 100; None or empty where unknown.
        answers: what was answered to each item; empty for a group of tasks.
    """

    score: float
    n: int
    credits: dict[str, float] | None
    answers: Sequence[Answer] = ()


class LMMSEval(ModelBenchmark):
    """Tasks of lmms-eval, scored on the model in memory; the score is the mean over the tasks.

    A failed task is reported with its cause and has no score; then the benchmark has none either,
    and the run continues. Decoding is greedy. Each question must have one image.

    Args:
        tasks: names of tasks or groups; a column of the paper (`POPE`, `SQA-I`, …) selects its
            task, metric and unit.
        include_path: folder of task files (YAML); data paths may be relative to them.
        name: name of the benchmark, by default that of its tasks.
        metric: metric of each task; by default its first.
        scale: factor of a metric; 100 converts a fraction to a percentage.
        limit: number of items of each task, from its start, for a quick run.
        batch_size: batch size on each device; by default that of the callback.
        max_new_tokens: maximum tokens of an answer where a task sets none.
        one_image_only: answer items with no or several images with an empty text instead of
            failing; for metrics that skip them.
    """

    def __init__(
        self,
        tasks: list[str],
        include_path: str | None = None,
        name: str | None = None,
        metric: str | None = None,
        scale: Positive = 100.0,
        limit: Count | None = None,
        batch_size: Count | None = None,
        max_new_tokens: Tokens = 1024,
        one_image_only: bool = False,
    ) -> None:
        if not tasks or len(set(tasks)) < len(tasks):
            raise UserError("benchmarks: `tasks` of LMMSEval must name tasks, each once")
        for key, value in (("limit", limit), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise UserError(f"benchmarks: `{key}` is {value}; give 1 or more, or null")
        self.tasks = tasks
        self.include_path = include_path
        self.name = name or "+".join(tasks)
        self.metric, self.scale = metric, scale
        self.limit, self.batch_size = limit, batch_size
        self.max_new_tokens = max_new_tokens
        self.one_image_only = one_image_only

    def fingerprint(self) -> Json:
        """Return version, settings and the contents of the folder; not data outside of it."""
        folder = self._folder()
        return {
            "benchmark": [type(self).__name__, 1, self.name, PINNED],
            "tasks": self.tasks,
            "folder": None if folder is None else digest_folder(folder),
            "settings": [
                self.metric,
                self.scale,
                self.limit,
                self.max_new_tokens,
                self.one_image_only,
            ],
        }

    def examine(self) -> str:
        """Check that lmms-eval is installed and knows the tasks.

        Raises:
            UserError: it is not, or does not.
        """
        require()
        self._folder()
        names = [target.task for target in self.targets()]
        with _as_one_process():
            from presel_lightning.eval.benchmarks.lmms_model import tasks

            try:
                tasks(names, self.include_path)
            except KeyError as error:
                where = f" or in {self.include_path}" if self.include_path else ""
                raise UserError(
                    f"benchmarks: lmms-eval {PINNED} has no task {error.args[0]}{where}; "
                    "correct `tasks` or `include_path` of LMMSEval"
                ) from None
        return f"lmms-eval {PINNED}: {', '.join(names)}"

    def targets(self) -> list[Target]:
        """Return the scores to compute."""
        columns = {column.name: column for column in COLUMNS}
        found = []
        for task in self.tasks:
            column = columns.get(task)
            if column is None:
                found.append(Target(task, task, self.metric, self.scale))
            else:
                found.append(Target(task, column.task, column.metric, column.scale, column))
        return found

    def run(self, model: LiveModel) -> PartialScore:
        """Score each task, on all processes together.

        Raises:
            UserError: lmms-eval is not installed.
        """
        require()
        found: dict[str, Found] = {}
        reasons = broadcast(self.skipped)
        for target in self.targets():
            if target.name in reasons:
                continue
            try:
                found[target.name] = self._scored(target, model)
            except SharedFailure as failure:
                reasons[target.name] = str(failure)
        scores = {name: part.score for name, part in found.items()}
        whole = nan if reasons else fsum(scores.values()) / len(scores)
        n = sum(part.n for part in found.values())
        answers = [answer for part in found.values() for answer in part.answers]
        return PartialScore(
            whole, scores, n, **items_kept(found), answers=answers or None, reasons=reasons
        )

    def skipped(self) -> dict[str, str]:
        """Return the columns whose judge cannot be called here."""
        return {
            target.name: reason
            for target in self.targets()
            if target.column and (reason := target.column.skipped(os.environ))
        }

    def _scored(self, target: Target, model: LiveModel) -> Found:
        """Score one task; the result is the same on every process.

        Raises:
            SharedFailure: on every process, if one has failed.
        """
        mine, failure = None, None
        try:
            mine = self._evaluated(target, model)
        except SharedFailure:
            raise
        except Exception as error:  # noqa: BLE001 - third-party code; reported as the task's reason
            failure = describe(cause(error))
        first = share(mine, failure)[0]
        assert first is not None  # the first process has scored or failed
        return first

    def _evaluated(self, target: Target, model: LiveModel) -> Found | None:
        """Run one task by lmms-eval; the first process gets the score, the others None."""
        with _as_one_process():
            from lmms_eval.evaluator import simple_evaluate

            from presel_lightning.eval.benchmarks.lmms_model import Answered, InMemory, tasks

            manager = tasks([target.task], self.include_path)
            self._load(manager, target)
            alone = self.one_image_only or target.metric == "seed_image"
            try:
                results = simple_evaluate(
                    model=InMemory(model, self.max_new_tokens, alone),
                    tasks=[target.task],
                    task_manager=manager,
                    limit=self.limit,
                    bootstrap_iters=0,
                    log_samples=True,
                    # no collectives of lmms-eval: it sees one process
                    distributed_executor_backend="torchrun",
                    process_docs_parallel=1,
                    # output folder of submission files
                    cli_args=Namespace(output_path=str(model.folder), process_with_media=True),
                )
            except Answered:
                return None
        metric, value = picked(results, target)
        # a group has a score, but no samples
        samples = results["samples"].get(target.task, [])
        credits = credits_of(samples, metric, target.scale)
        answers = answers_of(samples, target.name, credits)
        return Found(value * target.scale, items_of(results), credits, answers)

    @staticmethod
    def _load(manager: Any, target: Target) -> None:  # noqa: ANN401 - `lmms_model.Tasks`
        """Load the data on the first process, then on the others from the cache."""
        for turn in (rank_zero(), not rank_zero()):
            failure = None
            try:
                if turn:
                    manager.load_task_or_group([target.task])
            except Exception as error:  # noqa: BLE001 - raised on all processes
                failure = describe(cause(error))
            share(None, failure)

    def _folder(self) -> Path | None:
        if self.include_path is None:
            return None
        folder = Path(self.include_path).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"benchmarks: {folder}: no such folder; set `include_path` of {self.name}"
            )
        return folder


def require() -> None:
    """Check that the pinned lmms-eval is installed.

    Raises:
        UserError: it is missing, or has another version.
    """
    try:
        found = version("lmms_eval")
    except PackageNotFoundError:
        raise UserError(
            "benchmarks: LMMSEval needs lmms-eval; install presel-lightning[lmms], or without a GPU "
            f"as described in {page('scoring.md')}"
        ) from None
    if found != PINNED:
        raise UserError(
            f"benchmarks: LMMSEval needs lmms-eval {PINNED}, not {found}; "
            "install presel-lightning[lmms]"
        )


@contextmanager
def _as_one_process() -> Iterator[None]:
    """Restore what lmms-eval changes: environment, collective timeout, logging, Pillow.

    lmms-eval reads rank and world size from the environment; its import sets the default collective
    timeout to a day, and has Pillow load truncated images as if they were whole, which would hide
    them from a later pool. Its patches of filelock and ssl remain.
    """
    timeout = dist.distributed_c10d.default_pg_timeout
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    with environment(RANK="0", WORLD_SIZE="1", LOCAL_RANK=None):
        try:
            import lmms_eval.models  # noqa: F401 - sets up its log
            from loguru import logger

            logger.disable("lmms_eval")
            ImageFile.LOAD_TRUNCATED_IMAGES = True
            yield
        finally:
            dist.distributed_c10d.default_pg_timeout = timeout
            ImageFile.LOAD_TRUNCATED_IMAGES = truncated


def cause(error: BaseException) -> BaseException:
    """Unwrap the error inside a retry error of lmms-eval."""
    attempt = getattr(error, "last_attempt", None)
    inner = attempt.exception() if attempt is not None else None
    return error if inner is None else cause(inner)


def picked(results: Json, target: Target) -> tuple[str, float]:
    """Return the name and value of the target's metric.

    Raises:
        ValueError: there is no such metric, it is not a number, or lower is better.
    """
    found: dict[str, Any] = {}
    for key, value in results["results"].get(target.task, {}).items():
        metric, _, rest = key.partition(",")
        if rest and not metric.endswith(("_stderr", "_stderr_clt", "_stderr_clustered")):
            found.setdefault(metric, value)
    name = target.metric or next(iter(found), None)
    if name not in found:
        named = ", ".join(found) or "none; name the tasks of a group instead of the group"
        raise ValueError(f"no metric {name} in the results of {target.task}; there are {named}")
    value = found[name]
    if not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"metric {name} of {target.task} is {value!r:.80}, not a number")
    if results["higher_is_better"].get(target.task, {}).get(name) is False:
        raise ValueError(
            f"lower is better for metric {name} of {target.task}; set `metric` to another one"
        )
    return name, float(value)


def credits_of(samples: Sequence[Json], metric: str, scale: float) -> dict[str, float] | None:
    """Return the metric of each item; None where it is not one number per item.

    `resampling.read_kept` checks whether their mean is the score.
    """
    values = {str(sample["doc_id"]): sample.get(metric) for sample in samples}
    if len(values) < len(samples):  # several filters
        return None
    numbers = {uid: float(v) for uid, v in values.items() if isinstance(v, int | float)}
    if len(numbers) < len(values) or not all(map(isfinite, numbers.values())):
        return None
    return {uid: value * scale / 100 for uid, value in numbers.items()}


def items_kept(found: Mapping[str, Found]) -> Json:
    """Return the score's fields for the credits of all tasks; empty unless every task has some."""
    rows = [
        (task, uid, credit)
        for task, part in found.items()
        for uid, credit in (part.credits or {}).items()
    ]
    if not all(part.credits for part in found.values()):
        return {}
    return {
        "items": [credit for _, _, credit in rows],
        "item_tasks": [task for task, _, _ in rows],
        "item_ids": [f"{task} {uid}" for task, uid, _ in rows],
    }


def items_of(results: Json) -> int:
    """Return the number of scored items."""
    return sum(int(entry["effective"]) for entry in results["n-samples"].values())
