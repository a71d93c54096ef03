"""What a run on image-text pairs needs: its encoder, the pairs that are scored on, cost and disk."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from presel_lightning.check.cost import Comparison, in_hours, report_disk
from presel_lightning.check.report import Report
from presel_lightning.check.survey import Survey, survey
from presel_lightning.data.source import PoolSource
from presel_lightning.errors import UserError
from presel_lightning.models.hub import reach_hub
from presel_lightning.recipe.beside import source_beside
from presel_lightning.recipe.pair_fits import PairFits
from presel_lightning.recipe.pair_scoring import refuse_benchmarks
from presel_lightning.recipe.passes.base import Pass, Throughput, Work
from presel_lightning.recipe.plan import Plan, StageFactory
from presel_lightning.signals import Signal


def n_held_out(plan: Plan, n: int) -> int:
    """Return how many of n samples are held out of the pool, about: pictures are held out whole."""
    keys = plan.two_tower
    return 0 if keys is None or keys.test is not None else round(keys.held_out * n)


def examine_pairs(
    plan: Plan,
    factory: StageFactory,
    source: PoolSource | None,
    found: Survey,
    work: Work | None,
    width: int,
    comparison: Comparison | None,
    report: Report,
) -> None:
    """Examine a run that trains probes: no language model is asked for.

    Args:
        plan: settings of the run.
        factory: builds its modules.
        source: files of the pool; None where they cannot be read.
        found: records of the pool.
        work: samples of every stage; None where unknown.
        width: feature dimension of the image encoder; 0 where none is needed.
        comparison: what `compare` would do, if anything.
        report: collects the results.
    """
    with report.collecting():
        refuse_benchmarks(plan)
    with report.collecting():
        encoder = factory.similarity().checkpoint
        reach_hub(None, [], {"stages.similarity.model.checkpoint": encoder})
        report.add("model", "two-tower probe", f"on the vectors of {encoder}")
    with report.collecting():
        examine_test(plan, found, report)
    if work is None or source is None:
        return
    needs = tuple(dict.fromkeys([*PairFits.needs, *plan.selector.needs]))
    report_passes(replace(work, needs=needs), "GPU-hours", 1, report)
    assert plan.two_tower is not None
    steps = plan.two_tower.epochs * ceil(work.arms["final"] / plan.two_tower.batch_size)
    report.add("GPU-hours", "final", f"{steps:,} steps of a probe, seconds to minutes")
    annotations = sum(path.stat().st_size for _, path in source.files if path.is_file())
    disk = annotations + sum(Pass.known[name].disk(work, 0, width) for name in needs)
    if comparison is not None:
        needs = tuple(dict.fromkeys([*PairFits.needs, *comparison.needs]))
        each = replace(work, needs=needs, images=len(found.images))
        report_passes(each, "compare", comparison.seeds, report)
        report.add("compare", "fits", f"{comparison.fits} probes")
        disk = annotations + sum(
            times(name, comparison.seeds) * Pass.known[name].disk(each, 0, width) for name in needs
        )
    report_disk(disk, plan.out, "run folder", "set --out to another disk", report)


def examine_test(plan: Plan, found: Survey, report: Report) -> None:
    """Report how many pairs retrieval is scored on.

    Raises:
        UserError: there are none, or their file cannot be read.
    """
    assert plan.two_tower is not None
    if plan.two_tower.test is None:
        n = n_held_out(plan, found.n_samples)
        report.add("retrieval", "held out of the pool", f"about {n:,} samples, by whole pictures")
    else:
        counted = survey(
            source_beside(plan.data, "two_tower.test", plan.two_tower.test), 1, plan.seed
        )
        n = counted.n_samples - counted.without_instruction
        report.add("retrieval", "two_tower.test", f"{n:,} pairs")
    if not n and found.n_samples:
        raise UserError(
            "two_tower: there are no pairs to score on; name a file in two_tower.test, or raise "
            "two_tower.held_out"
        )


def report_passes(work: Work, section: str, seeds: int, report: Report) -> None:
    """Report the GPU-hours of each signal."""
    for name in work.needs:
        for stage, took in Pass.known[name].estimate(work, Throughput()).items():
            report.add(section, stage, in_hours(times(name, seeds) * took / 3600))


def times(signal: str, seeds: int) -> int:
    """Return how often a comparison makes a signal: once a seed where it rests on the reference split."""
    return seeds if Signal.known[signal].on_reference else 1
