"""`check --against`: samples of the pool that a benchmark shows or asks too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from lightning import Trainer

from presel_lightning.check.report import Report, share
from presel_lightning.console import track
from presel_lightning.data.build import build_pool, pool_key, seen_path
from presel_lightning.data.conversation import InvalidRecordError, images_of
from presel_lightning.data.images import scan_images
from presel_lightning.data.leakage import (
    EMBEDDING,
    LOOKS_ALIKE,
    QUESTION,
    SAME_FILE,
    BenchmarkItem,
    Leak,
    SharedQuestions,
    alike,
    leakage_path,
    same_files,
    similar,
    write_leaks,
)
from presel_lightning.data.pool import Pool, bytes16, load_pool
from presel_lightning.data.resolver import OutsideRoot, Resolver
from presel_lightning.data.source import PoolSource, source
from presel_lightning.errors import UserError
from presel_lightning.recipe.plan import Plan, StageFactory
from presel_lightning.run.files import read_json, scratch
from presel_lightning.run.fingerprint import digest_lines
from presel_lightning.run.ledger import Ledger
from presel_lightning.run.ranges import Count, Fraction
from presel_lightning.signals import Features, Signals
from presel_lightning.tasks.block_writer import BlockWriter

CONFIGURED = "benchmarks"
"""Word of `--against` for the benchmarks of the configuration."""


@dataclass(frozen=True)
class Against:
    """What a pool is compared with, and from where on something counts as shared.

    Attributes:
        files: annotation files or folders of images of benchmarks; `benchmarks` for those of the
            configuration.
        cosine: of two features.
        words: of an n-gram.
    """

    files: tuple[str, ...]
    cosine: Fraction = 0.95
    words: Count = 13


def examine_leakage(
    plan: Plan, factory: StageFactory, pooled: PoolSource, against: Against, report: Report
) -> None:
    """Compare the pool with benchmarks; list what they share in `leakage.csv` of the run folder.

    Raises:
        UserError: a benchmark cannot be read.
    """
    items = [item for place in against.files for item in tested_of(plan, place)]
    pool = pool_of(plan, pooled)
    leaks = [*shared_images(plan, factory, pool, items, against, report)]
    shared = SharedQuestions(items, against.words)
    leaks += shared_questions(pool, items, shared)
    write_leaks(leakage_path(plan.out), leaks)
    report.add("leakage", "compared with", f"{len(items):,} items of {', '.join(against.files)}")
    for (benchmark, kind), n in sorted(Counter((l.benchmark, l.kind) for l in leaks).items()):
        report.add("leakage", f"{benchmark}: {kind}", share(n, len(pool)))
    if shared.short:
        what = f"{shared.short:,}, fewer than {against.words} words of their own"
        report.add("leakage", "questions not compared", what)
    if leaks:
        report.notes.append(
            f"{len({leak.uid for leak in leaks})} of {len(pool)} samples share an image or a question "
            f"with a benchmark, listed in {leakage_path(plan.out)}; --data.exclude with this file "
            "leaves them out"
        )


def tested_of(plan: Plan, place: str) -> Iterator[BenchmarkItem]:
    """Items of a benchmark: of the configuration, of an annotation file, or of a folder of images."""
    if place == CONFIGURED:
        for benchmark in plan.benchmarks:
            for asked in benchmark.items():
                for file in asked.images:
                    yield BenchmarkItem(benchmark.name, asked.uid, file, asked.question)
        return
    data, name = plan.data, Path(place).name
    try:
        found = source(
            place,
            several_images="keep",
            follow_links=data.follow_links,
            unpacked=(scratch() or plan.out / "work") / "against" / name,
        )
    except UserError as error:
        raise UserError(str(error).replace("data.annotations", "--against")) from error
    resolver = found.resolver
    for number, entry in enumerate(found.entries(), start=1):
        record = entry.record
        item = str(record.get("id") or number)
        turns = record.get("conversations")
        humans = turns[::2] if isinstance(turns, list) else []
        question = "\n".join(
            str(turn.get("value", "")) for turn in humans if isinstance(turn, dict)
        )
        question = question.replace("<image>", "").strip()
        for image in tested_images(record, resolver):
            yield BenchmarkItem(name, item, image, question)


def tested_images(record: dict[str, object], resolver: Resolver) -> list[Path | None]:
    """Image files of a benchmark's record; None alone where it has none that can be found."""
    try:
        return [resolver(image) for image in images_of(record)] or [None]
    except (InvalidRecordError, OutsideRoot):
        return [None]


def pool_of(plan: Plan, pooled: PoolSource) -> Pool:
    """Open the pool of the run folder, or build one that is gone afterward."""
    ledger = Ledger(plan.out / "run.json")
    if ledger.is_done("pool", pool_key(pooled), [seen_path(plan.out)]):
        return load_pool(plan.out, pooled.image_root)
    folder = (scratch() or plan.out / "work") / "leakage"
    build_pool(pooled, folder, track=track)
    return load_pool(folder, pooled.image_root)


def shared_images(
    plan: Plan,
    factory: StageFactory,
    pool: Pool,
    items: Sequence[BenchmarkItem],
    against: Against,
    report: Report,
) -> Iterator[Leak]:
    """Samples whose image a benchmark has, each once a benchmark by the surest kind of evidence."""
    by_benchmark: dict[str, dict[Path, str]] = {}
    for item in items:
        if item.image is not None:
            by_benchmark.setdefault(item.benchmark, {}).setdefault(item.image, item.item)
    for benchmark, named in by_benchmark.items():
        paths = list(named)
        scans = scan_images(
            Resolver(Path("/"), True),
            [str(path.absolute())[1:] for path in paths],
            max_pixels=plan.data.max_pixels,
            pixels=plan.data.pixels,
            workers=plan.data.num_workers,
            track=track,
        )
        found = [scan for _, _, scan in scans]
        sound = [scan.fault is None for scan in found]
        if not all(sound):
            report.add("leakage", f"{benchmark}: unreadable images", str(sound.count(False)))
        paths = [path for path, is_sound in zip(paths, sound, strict=True) if is_sound]
        digests = np.array([np.void(s.digest) for s in found if s.fault is None], "V16")
        looks = np.array([s.look for s in found if s.fault is None], np.uint64)
        evidence = alike_images(pool, digests, looks)
        for row, value in near_features(plan, factory, pool, paths, against.cosine, report).items():
            evidence.setdefault(row, value)
        for row, (kind, place, detail) in sorted(evidence.items()):
            yield leak_of(pool, row, kind, benchmark, named[paths[place]], detail)


Evidence = tuple[str, int, str]
"""Kind of a leak, place of the benchmark's image, and what was measured."""


def alike_images(pool: Pool, digests: np.ndarray, looks: np.ndarray) -> dict[int, Evidence]:
    """Rows of the pool that show one of these images, by content and by perceptual hash."""
    table = pq.read_table(seen_path(pool.out), columns=["image", "digest", "look"])
    same = same_files(bytes16(table["digest"]), digests)
    near, bits = alike(table["look"].to_numpy(), looks)
    evidence: dict[str, Evidence] = {}
    for place, image in enumerate(table["image"].to_pylist()):
        if same[place] >= 0:
            evidence[image] = SAME_FILE, int(same[place]), "equal bytes"
        elif near[place] >= 0:
            detail = f"{bits[place]} of 64 bits of the perceptual hash differ"
            evidence[image] = LOOKS_ALIKE, int(near[place]), detail
    found: dict[int, Evidence] = {}
    for row in range(len(pool)):
        shown = [evidence[image] for image in pool.images(row) if image in evidence]
        if shown:
            found[row] = min(shown, key=lambda each: each[0] != SAME_FILE)
    return found


def near_features(
    plan: Plan,
    factory: StageFactory,
    pool: Pool,
    paths: list[Path],
    threshold: float,
    report: Report,
) -> dict[int, Evidence]:
    """Rows of the pool whose features are near to those of these images, where there are features.

    The benchmark's images are embedded by the encoder of the features, on one device.
    """
    signals = Signals(plan.out / "signals")
    features = signals.of(Features)
    if not features.exists() or not paths:
        if not features.exists():
            report.add("leakage", "embeddings", "not compared: no features in the run folder yet")
        return {}
    module = factory.embed()
    made_by = read_json(features.path / "meta.json").get("encoder")
    if made_by != module.checkpoint:
        report.notes.append(
            f"embeddings are not compared: the features in {features.path} are of {made_by}, and "
            f"stages.features.model.checkpoint is {module.checkpoint}"
        )
        return {}
    trainer = Trainer(
        devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    blocks = plan.data.show(paths, module.processor)
    shown = digest_lines(map(str, paths))
    writer = BlockWriter((scratch() or plan.out / "work") / f"against-{shown}", blocks)
    writer.fill(trainer, module, plan.data)
    tested = np.asarray(writer.merge()["features"], np.float32)
    places, cosine = similar(features.read(pool, np.arange(len(pool))), tested, threshold)
    return {
        int(row): (EMBEDDING, int(places[row]), f"cosine {cosine[row]:.4f}")
        for row in np.flatnonzero(places >= 0)
    }


def shared_questions(
    pool: Pool, items: Sequence[BenchmarkItem], shared: SharedQuestions
) -> Iterator[Leak]:
    """Samples that ask what a benchmark asks, each once, by its first shared n-gram."""
    for row in range(len(pool)):
        for turn in pool.sample(row).turns:
            if (found := shared.find(turn.question)) is not None:
                item = items[found[0]]
                yield leak_of(pool, row, QUESTION, item.benchmark, item.item, found[1])
                break


def leak_of(pool: Pool, row: int, kind: str, benchmark: str, item: str, detail: str) -> Leak:
    """Line of a sample."""
    named = str(pool.uid[row]), str(pool.id[row]), str(pool.image[row]), str(pool.task[row])
    return Leak(*named, kind, benchmark, item, detail)
