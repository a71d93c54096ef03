"""`reshard`: new shards of the samples that a subset file lists, each as often as it lists them."""

from __future__ import annotations

import csv
import re
import shutil
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock

from presel_lightning.errors import UserError
from presel_lightning.filters.faults import Faults
from presel_lightning.filters.uid_files import sorted_uids
from presel_lightning.run.executors import Executor, complete, one_at_a_time
from presel_lightning.run.files import make_folder, read_json, replacing, write_json
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.units import state_of
from presel_lightning.shards.index import IndexStage
from presel_lightning.shards.packs import Packing, TokenStage, write_packs
from presel_lightning.shards.plan import Plan, make_plan, repeats
from presel_lightning.shards.samples import shard_state
from presel_lightning.shards.write import SHARD, STATS, WriteStage

FORMAT = 1
"""Of what lies in the work folder; another version starts again."""


@dataclass(frozen=True)
class Reshard:
    """One call of `reshard`.

    Args:
        input: folder of the shards, at any depth; gaps in their numbers do not matter.
        subset: sorted subset file.
        output: folder of the new shards.
        shard_size: samples of a shard.
        shuffle: seed by which the samples are shuffled; None keeps the order of the pool.
        packing: puts samples into sequences, which stay in one piece; None does not.
        faults: `skip` lists shards and samples that cannot be read, `stop` stops there.
        executor: who does the shards.
        workers: at a time.
    """

    input: Path
    subset: Path
    output: Path
    shard_size: int = 10_000
    shuffle: int | None = None
    packing: Packing | None = None
    faults: Faults = "skip"
    executor: Executor = "local"
    workers: int = 1

    @property
    def work(self) -> Path:
        """Folder of the manifests; it goes when the shards are there."""
        return self.output / ".work"

    @property
    def summary(self) -> Path:
        """What was written, as DataComp's trainer reads it; it comes last."""
        return self.output / "meta.json"

    def run(self) -> dict[str, Any]:
        """Reshard, unless this very call has; return what was written."""
        shards = self._shards()
        sorted_uids(str(self.subset), "subset")
        files = fsspec.filesystem("file")
        contents = [[shard, shard_state(self.input / shard)] for shard in shards]
        options = [FORMAT, state_of(files, str(self.subset)), self.faults]
        how = [self.shard_size, self.shuffle, *([asdict(self.packing)] if self.packing else [])]
        key = fingerprint([options, contents, *how])
        if known := self._done(key):
            return known
        self._empty(key)
        with one_at_a_time(self.work, self.executor):
            write_json(self.work / "call.json", {"fingerprint": key})
            index = IndexStage(
                self.work / "index",
                fingerprint(options),
                input=self.input,
                shards=tuple(shards),
                subset=self.subset,
                faults=self.faults,
            )
            complete(index, range(len(shards)), self.executor, self.workers, "shards indexed")
            tokens = self._tokens(index)
            with FileLock(self.work / ".plan"):
                plan = self._plan(index, key, tokens)
            stage = WriteStage(
                self.work / "shards", key, index=index, plan=plan, output=self.output
            )
            numbers = range(len(plan.starts) - 1)
            complete(stage, numbers, self.executor, self.workers, "shards written")
            with FileLock(self.work / ".writing"):
                if self._done(key) is None:
                    if tokens is not None:
                        write_packs(tokens, plan.folder, plan.starts, self.output / "packs.parquet")
                    self._write(index, plan, key)
        written: dict[str, Any] = read_json(self.summary)
        return written

    def _shards(self) -> list[str]:
        """Shards in the order of their numbers."""
        if self.output.resolve().is_relative_to(self.input.resolve()):
            raise UserError(f"--output {self.output} lies in --input {self.input}; give another")
        found = [path.relative_to(self.input).as_posix() for path in self.input.rglob("*.tar")]
        if not found:
            raise UserError(f"--input {self.input}: no .tar there; give a folder of shards")
        return sorted(found, key=lambda name: ([int(n) for n in re.findall(r"\d+", name)], name))

    def _done(self, key: str) -> dict[str, Any] | None:
        known = read_json(self.summary) if self.summary.is_file() else {}
        return known if known.get("fingerprint") == key else None

    def _empty(self, key: str) -> None:
        """Refuse a folder with something else in it, lest shards of two calls lie side by side."""
        make_folder(self.output)
        # listed before `call.json` is read: another task of an array may begin this very call
        others = any(path.suffix == ".tar" for path in self.output.iterdir())
        call = self.work / "call.json"
        if call.is_file() and read_json(call)["fingerprint"] == key:
            return
        if others:
            raise UserError(
                f"--output {self.output}: shards of something else lie there; give a new folder"
            )

    def _tokens(self, index: IndexStage) -> TokenStage | None:
        """Tokens of all samples that are asked for, where they are packed."""
        if self.packing is None:
            return None
        key = fingerprint([index.key, asdict(self.packing)])
        stage = TokenStage(self.work / "tokens", key, index=index, packing=self.packing)
        complete(stage, range(len(index.shards)), self.executor, self.workers, "shards counted")
        return stage

    def _plan(self, index: IndexStage, key: str, tokens: TokenStage | None) -> Plan:
        """Divide the samples into shards, or read how they were divided."""
        folder = self.work / f"plan-{key}"
        place = folder / "plan.json"
        if not place.is_file():
            left_out = defaultdict(list)
            with replacing(folder / "repeats.csv") as part, part.open("w", newline="") as text:
                table = csv.writer(text)
                for repeat in repeats(index):
                    left_out[repeat.shard].append(repeat.row)
                    uid = f"{repeat.uid[0]:016x}{repeat.uid[1]:016x}"
                    first = index.shards[repeat.first]
                    path = str(index.path(repeat.shard))
                    table.writerow([path, "repeated_uid", f"{uid} is in {first} before"])
            plan = make_plan(index, folder, left_out, self.shard_size, self.shuffle, tokens)
            write_json(place, {"starts": plan.starts, "offsets": plan.offsets})
        known = read_json(place)
        ordered = self.shuffle is not None or tokens is not None
        return Plan(folder, tuple(known["starts"]), tuple(known["offsets"]), ordered)

    def _write(self, index: IndexStage, plan: Plan, key: str) -> None:
        """What lies beside the shards: sizes, subset, faults, and last the summary."""
        shards = len(plan.starts) - 1
        sizes = {SHARD.format(n): plan.starts[n + 1] - plan.starts[n] for n in range(shards)}
        counts: Counter[str] = Counter()
        faults: Counter[str] = Counter()
        problems = self.output / "problems.csv"
        with replacing(problems) as part, part.open("w", encoding="utf-8", newline="") as text:
            table = csv.writer(text)
            table.writerow(["file", "problem", "detail"])
            for number in range(len(index.shards)):
                manifest = index.read(number)
                counts.update({name: manifest[name] for name in ("samples", "kept")})
                faults.update(problem for _, problem, _ in manifest["faults"])
                table.writerows(manifest["faults"])
            with (plan.folder / "repeats.csv").open(encoding="utf-8", newline="") as rows:
                for row in csv.reader(rows):
                    faults["repeated_uid"] += 1
                    table.writerow(row)
        write_json(self.output / "sizes.json", sizes)
        with replacing(self.output / "sample_ids.npy") as part:
            shutil.copyfile(self.subset, part)
        options = {
            "input_dir": str(self.input),
            "subset_file": str(self.subset),
            "output_dir": str(self.output),
            "shard_size": str(self.shard_size),
            "shuffle": str(self.shuffle),
            "output_shard_format": SHARD,
            "output_shard_stats_format": STATS,
        }
        write_json(
            self.summary,
            {
                **options,
                "fingerprint": key,
                "input_shard_count": len(index.shards),
                "processed_count": counts["samples"],
                "output_count": plan.starts[-1],
                "output_shard_count": shards,
                "faults": faults,
            },
        )
