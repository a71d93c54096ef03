"""`score`: a judge's ratings, CLIP similarities and features of the pairs of a folder of shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException

from presel_lightning.cli.scorings import Scoring, loaded
from presel_lightning.console import console, quiet
from presel_lightning.errors import UserError
from presel_lightning.loading.shard_blocks import Shard, ShardPass
from presel_lightning.models.hub import reach_hub
from presel_lightning.run.executors import Executor, complete
from presel_lightning.run.files import make_folder, read_json, remove
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ranks import barrier, join, keep_signals, rank_zero
from presel_lightning.run.units import Stage
from presel_lightning.shards.rows import shards_in
from presel_lightning.shards.samples import shard_state
from presel_lightning.tasks.shard_writer import ShardWriter, is_done


@dataclass(frozen=True)
class ScoreStage(Stage):
    """Scores of each shard.

    Args:
        folder: of the manifests and of the blocks that are done.
        key: what else defines the result.
        scoring: what is computed.
        shards: tars.
        keys: what defines the scores of each.
        tables: where the table of each goes, without its ending.
        block_size: samples of a forward pass.
        num_workers: processes that decode images, for each device.
    """

    scoring: Scoring
    shards: tuple[Path, ...]
    keys: tuple[str, ...]
    tables: tuple[Path, ...]
    block_size: int
    num_workers: int
    accelerator: str
    precision: str | int | None

    holds_model: ClassVar[bool] = True

    def defined_by(self, number: int) -> object:
        """Shard and scores."""
        return self.keys[number]

    def __call__(self, number: int) -> None:
        """Score a shard on one device of this process."""
        quiet()
        if not self.is_done(number):
            environment = LightningEnvironment()  # whatever started this process
            self.score([number], devices=1, plugins=[environment])
        self.finish(number, {})

    def is_done(self, number: int) -> bool:
        """Whether the table of a shard is there."""
        return is_done(self.tables[number], self.keys[number])

    def score(self, numbers: Sequence[int], **options: Any) -> None:  # noqa: ANN401 - the Trainer's
        """Score some shards, on as many devices as a Trainer is given."""
        module, encode = loaded(self.scoring)
        blocks = [self.folder / f"{self.keys[n]}-{self.block_size}" for n in numbers]
        shards = [Shard(self.shards[n], place) for n, place in zip(numbers, blocks, strict=True)]
        tables = {shard: self.tables[n] for n, shard in zip(numbers, shards, strict=True)}
        keys = {shard: self.keys[n] for n, shard in zip(numbers, shards, strict=True)}
        for table in tables.values():
            make_folder(table.parent)
        data = ShardPass(shards, self.block_size, encode, self.num_workers)
        writer = ShardWriter(data, tables, keys, self.scoring.columns, self.scoring.kept)
        options |= {"accelerator": self.accelerator, "precision": self.precision}
        trainer = trainer_of(options, writer)
        join(trainer)
        trainer.predict(module, datamodule=data, return_predictions=False)


@dataclass(frozen=True)
class ScoreRun:
    """One call of `score`.

    Args:
        input: folder of the shards.
        output: folder of the tables.
        block_size: pairs of a forward pass.
        num_workers: processes that decode images, for each device.
        executor: who does the shards.
        workers: at a time; with one of this machine, the Trainer's processes share them.
        trainer: options of Lightning's Trainer.
    """

    input: Path
    output: Path
    block_size: int
    num_workers: int
    executor: Executor
    workers: int
    trainer: dict[str, Any]

    def run(self, scorings: Sequence[Scoring]) -> None:
        """Score every sample, by one model after the other.

        Raises:
            UserError: there are no shards, a model cannot be had, or options exclude each other.
        """
        shards = shards_in(self.input)
        if not shards:
            raise UserError(f"--input {self.input}: no .tar there or below")
        if not scorings:
            raise UserError("score needs --judge, --clip or --features CHECKPOINT")
        quiet()
        reach_hub(None, [], {f"--{each.name}": each.checkpoint for each in scorings})
        for scoring in scorings:
            self._score(scoring, shards)

    @property
    def _by_trainer(self) -> bool:
        return self.executor == "local" and self.workers == 1

    def _score(self, scoring: Scoring, shards: Sequence[Path]) -> None:
        """Score the shards that have no table of this key."""
        out = self.output / scoring.name
        try:
            key = scoring.key()
            loaded(scoring)
        except UserError as error:
            message = str(error).replace("stages.similarity.", "")
            message = message.replace("model.checkpoint", f"--{scoring.name}")
            raise UserError(message) from error
        keys = [fingerprint({"score": 1, "by": key, "shard": shard_state(path)}) for path in shards]
        stage = ScoreStage(
            out / ".work",
            "score",
            scoring=scoring,
            shards=tuple(shards),
            keys=tuple(keys),
            tables=tuple(out / path.relative_to(self.input).with_suffix("") for path in shards),
            block_size=self.block_size,
            num_workers=self.num_workers,
            accelerator=self.trainer["accelerator"],
            precision=self.trainer["precision"],
        )
        left = [number for number in range(len(shards)) if not stage.is_done(number)]
        if left and self._by_trainer:
            shared = ("devices", "num_nodes", "strategy")
            stage.score(left, **{name: self.trainer[name] for name in shared})
            barrier()  # the other processes may still write
        elif left:
            self._refuse_devices()
            make_folder(stage.folder)
            _drop(stage, left)  # of tables that are gone
            complete(stage, left, self.executor, self.workers, "shards scored")
            if self.executor != "slurm":  # other tasks may still read
                _drop(stage, left)
        if rank_zero():
            _report(out, stage.tables, len(shards) - len(left))

    def _refuse_devices(self) -> None:
        """Refuse several devices where each worker has one.

        Raises:
            UserError: several are asked for.
        """
        if self.trainer["devices"] not in ("auto", 1, "1") or self.trainer["num_nodes"] != 1:
            raise UserError(
                "score: --devices and --num_nodes share the shards among the processes of one "
                "Trainer; a worker of --executor or --workers has one device. Give one or the other"
            )


def _drop(stage: ScoreStage, numbers: Sequence[int]) -> None:
    """Remove the manifests of the units; the tables say what is done."""
    for number in numbers:
        remove(stage.manifest(number))


def trainer_of(options: dict[str, Any], writer: ShardWriter) -> Trainer:
    """The Trainer of a pass.

    Raises:
        UserError: Lightning refuses an option.
    """
    try:
        trainer = Trainer(
            callbacks=[writer],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **options,
        )
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"score: {error}") from error
    keep_signals(trainer)
    return trainer


def _report(out: Path, tables: Sequence[Path], reused: int) -> None:
    """Print what was scored, and what was left out."""
    found = [read_json(p) for t in tables if (p := t.with_suffix(".json")).is_file()]
    scored, samples = (sum(each[name] for each in found) for name in ("scored", "samples"))
    again = f", {reused} of them before" if reused else ""
    console.print(
        f"{scored} of {samples} samples scored in {len(found)} shards{again}: {out}", soft_wrap=True
    )
    faults = Counter(kind for each in found for _, kind, _ in each["faults"])
    for kind, n in faults.items():
        console.print(f"  {n} x {kind.replace('_', ' ')}: `faults` of {out}/*.json", soft_wrap=True)
