"""The `check` command: examines every part of a run, and leaves no files."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from presel_lightning.check.benchmarks import (
    Reader,
    cached_width,
    examine_answers,
    examine_benchmarks,
)
from presel_lightning.check.cost import (
    Comparison,
    comparison_bytes,
    comparison_hours,
    disk_bytes,
    gpu_hours,
    report_comparison,
    report_cost,
    report_disk,
)
from presel_lightning.check.devices import Devices, count_devices, examine_memory
from presel_lightning.check.leakage import Against, examine_leakage
from presel_lightning.check.network import (
    Network,
    dtype_width,
    feature_width,
    measure,
    report_network,
)
from presel_lightning.check.origin import origin_of, read_config, read_processor
from presel_lightning.check.pairs import examine_pairs
from presel_lightning.check.pictures import (
    inspect_images,
    lost_share,
    report_copies,
    report_decoded,
    report_images,
)
from presel_lightning.check.probe import Measured, probe, report_probe
from presel_lightning.check.report import Report, share
from presel_lightning.check.sizes import examine_sizes, examine_validation, examine_warm_up
from presel_lightning.check.survey import Survey, causes, report_survey, survey
from presel_lightning.check.tokens import examine_tokens
from presel_lightning.console import track
from presel_lightning.data.cures import cures_of
from presel_lightning.data.foreign import nothing_usable
from presel_lightning.data.sizes import count_of
from presel_lightning.data.source import PoolSource
from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.models import Components
from presel_lightning.models.assemble import is_assembled
from presel_lightning.models.checkpoint import Checkpoint
from presel_lightning.models.components import cache_folder
from presel_lightning.models.hub import available_encoder, reach_hub
from presel_lightning.models.packed import require_packable
from presel_lightning.recipe.passes.base import Throughput
from presel_lightning.recipe.plan import Plan, StageFactory
from presel_lightning.recipe.suitability import second_choice, unsuited
from presel_lightning.run.files import keeping_nothing
from presel_lightning.signals import Features
from presel_lightning.tasks import FineTune
from presel_lightning.tasks.embed import AUTO_ENCODER

DECODED = 1000
"""Number of images that are fully decoded; their share of broken images is extrapolated."""


@keeping_nothing()
def check(
    plan: Plan,
    factory: StageFactory,
    console: Console,
    *,
    throughput: Throughput | None = None,
    n_records: int = 2000,
    n_images: int | None = None,
    probing: bool | None = None,
    comparison: Comparison | None = None,
    against: Against | None = None,
) -> Report:
    """Examine what a run needs before any of its stages, and print a report.

    No files are left, except the model that `--probe true` assembles in the cache: files that have
    to be on disk (unpacked images, a shipped pool, the steps of a probe) are in a temporary folder
    that is removed at the end, or are reused from the run folder or the user's cache. Files of the
    hub go to the hub's own cache. Only a probe loads weights and trains.

    Args:
        plan: settings of the run.
        factory: builds its modules and Trainers.
        console: console of the report.
        throughput: samples per second of one GPU; by default the published cost, scaled.
        n_records: conversations to tokenize, a random sample by the run's seed.
        n_images: images whose headers are read, a random sample by the run's seed; all by default.
        probing: train some steps on one device and measure them; by default where the fit runs on a
            GPU, no throughput is given, and the model has been assembled (or need not be). True
            assembles it first, once, in the user's cache.
        comparison: what `compare` would do, to be priced too.
        against: benchmarks that the pool is compared with; the only reason to write a file, the
            `leakage.csv` of the run folder.

    Returns:
        The report.

    Raises:
        UserError: something will fail later; the message lists all of it.
    """
    report = Report()
    source: PoolSource | None = None
    found, left_out = Survey(), 0
    with report.collecting():
        examine_out(plan.out)
    with report.collecting():
        source = plan.data.source(plan.out)
    if source is None:  # it stopped at its first fault
        with report.collecting():
            examine_root(plan.data)
    else:
        with report.collecting():
            found = survey(source, n_records, plan.seed, track)
            report_survey(found, source, report)
        left_out = examine_images(plan, source, found, n_images, report)
        if against is not None:
            with report.collecting():
                examine_leakage(plan, factory, source, against, report)
    work = examine_sizes(plan, found, left_out, report)
    needs = {*plan.selector.needs, *(comparison.needs if comparison else ())}
    with report.collecting():
        examine_validation(plan, needs, report)
    width = examine_encoder(plan, factory, needs, report)
    with report.collecting():
        factory.examine_strategies()
    if plan.annotator is not None:
        with report.collecting():
            plan.annotator.examine()
    if plan.two_tower is not None:
        examine_pairs(plan, factory, source, found, work, width, comparison, report)
        report.show(console)
        report.stop()
        return report
    benchmarks = examine_benchmarks(plan, report)
    module = factory.model("final")
    if work is not None and work.reference:
        with report.collecting():
            examine_warm_up(plan, factory, work.reference)
    with report.collecting():
        encoder, models = models_of(plan, factory)
        report.notes += second_choice(encoder, factory.encoder)
        report.notes += unsuited(found.images, encoder, models)
    with report.collecting():
        reach_models(plan, factory)
        config = read_config(origin_of(module))
        if plan.data.packing:
            require_packable(config, module.loss_reduction)
        network = measure(module, config)
        report_network(network, module, report)
        processor = read_processor(module, config)
        lengths = examine_tokens(plan.data, processor, found, source, report)
        devices = count_devices(plan, factory, report)
        examine_memory(plan, devices, network, module, lengths, report)
        bytes_each = cached_width(devices.precision, module.dtype_name, config)
        reader = Reader(plan.data, processor, bytes_each)
        examine_answers(benchmarks, reader, network, devices.shards, report)
        if work is not None and source is not None:
            measured = None
            if is_probing(probing, devices, throughput):
                measured = examine_probe(plan, source, found, module, devices, probing, report)
            speed, speed_source = select_throughput(throughput, measured, network)
            work = replace(work, epochs={s: n_epochs(factory, s) for s in ("reference", "final")})
            report_cost(gpu_hours(work, speed), speed, speed_source, report)
            annotations = sum(path.stat().st_size for _, path in source.files if path.is_file())
            needed = disk_bytes(work, network, width, annotations)
            report_disk(needed, plan.out, "run folder", "set --out to another disk", report)
            if comparison is not None:
                split = count_of(plan.data.reference, work.pool, "data.reference")
                each = replace(work, reference=split, images=len(found.images))
                report_comparison(comparison, comparison_hours(comparison, each, speed), report)
                needed = comparison_bytes(comparison, each, network, width, annotations)
                report_disk(needed, plan.out, "comparison", "set --out to another disk", report)
        examine_assembly(module, network.total * dtype_width("auto", config), report)
    report.show(console)
    report.stop()
    return report


def examine_out(out: Path) -> None:
    """Check that the run folder can be created or written, without doing so.

    Raises:
        UserError: it cannot.
    """
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"--out {out}: {there} is a file; give a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"--out {out}: cannot be written (no write permission in {there}); give another folder"
        )


def is_probing(asked: bool | None, devices: Devices, stated: Throughput | None) -> bool:
    """Return whether to run a probe: as set, else where there is a GPU and no throughput."""
    return devices.kind == "cuda" and stated is None if asked is None else asked


def examine_root(data: SelectionDataModule) -> None:
    """Check that `data.image_root` exists."""
    if data.image_root and not Path(data.image_root).expanduser().is_dir():
        raise UserError(
            f"data.image_root {data.image_root}: no such folder; set it to the folder that image "
            "paths start from"
        )


def examine_images(
    plan: Plan, source: PoolSource, found: Survey, limit: int | None, report: Report
) -> int:
    """Read image headers, and decode some images; return how many records they will lose."""
    checked, faults, _ = inspect_images(source, list(found.images), limit, plan.seed, track)
    lost = report_images(source, checked, len(found.images), faults, report)
    sound = [image for image in checked if image not in faults]
    report_copies(source, sound, plan.data.copies, report)
    look = inspect_images(source, sound, DECODED, plan.seed, track, verify="full")
    report_decoded(look, len(sound), source.pixels, report)
    kept = (1 - lost_share(found.images, checked, faults)) * (
        1 - lost_share(found.images, look.images, look.faults)
    )
    left_out = round((1 - kept) * found.n_samples)
    kinds = Counter(kind for kind, _ in (*faults.values(), *look.faults.values()))
    lines = [*causes(found, source), *([lost] if lost else [])]
    examine_problems(plan, found, left_out, kinds, lines, report)
    return left_out


def examine_problems(
    plan: Plan,
    found: Survey,
    left_out: int,
    kinds: Counter[str],
    lines: list[str],
    report: Report,
) -> None:
    """Compare the number of records left out with the limit at which the run stops.

    Args:
        plan: of the run.
        found: the records.
        left_out: records that are expected to lose their image.
        kinds: invalid images by kind of problem, of those that were checked.
        lines: causes of many of these problems; warnings where the run goes on in spite of them.
        report: collects the lines.
    """
    problems = left_out + found.invalid.total()
    limit_of_problems = plan.data.max_problem_fraction
    report.add("images", "records left out in all", share(problems, found.n_records))
    if problems > limit_of_problems * found.n_records:
        limit = (
            f"{problems} of {found.n_records} records would be left out, more than "
            f"data.max_problem_fraction {limit_of_problems} allows: raise it, or fix them: "
            f"{cures_of(kinds + found.invalid)}"
        )
        report.failures += [*lines, limit]
    elif left_out == found.n_samples:
        others = found.passed_over, found.text_only
        report.failures += lines or [nothing_usable(plan.data.annotations, *others)]
    else:
        report.notes += lines


def models_of(plan: Plan, factory: StageFactory) -> tuple[str | None, list[Checkpoint]]:
    """Return the checkpoints that a fit loads: of the image encoder, if any, and of the model."""
    encoder = factory.embed().checkpoint if Features.name in plan.selector.needs else None
    if encoder == AUTO_ENCODER:
        encoder = factory.encoder = available_encoder()
    return encoder, [] if plan.two_tower else [factory.model("final").origin]


def reach_models(plan: Plan, factory: StageFactory) -> None:
    """See that the hub answers where a model comes from there, before any is read.

    Raises:
        UserError: it does not, and its cache does not hold a model.
    """
    reach_hub(*models_of(plan, factory))


def is_in_parts(module: FineTune) -> bool:
    """Return whether the model has yet to be assembled from its published parts."""
    origin = origin_of(module)
    return isinstance(origin, Components) and not is_assembled(origin)


def examine_assembly(module: FineTune, needed: float, report: Report) -> None:
    """Report the disk space of the model that is assembled from its parts, if it is missing."""
    if is_in_parts(module):
        cure = "set PRESEL_LIGHTNING_CACHE to another disk"
        report_disk(needed, cache_folder(), "model cache", cure, report)


def examine_probe(
    plan: Plan,
    source: PoolSource,
    found: Survey,
    module: FineTune,
    devices: Devices,
    asked: bool | None,
    report: Report,
) -> Measured | None:
    """Run a probe, unless the fit cannot be run on one device."""
    reason = None
    if report.failures:
        reason = "the run would stop as it is"
    elif not found.records:
        reason = "no record has an instruction yet"
    elif devices.shards > 1 or not devices.kind:
        reason = "the fit's Trainer cannot be run on one device"
    elif module.tune == "none":
        reason = "nothing is trained"
    elif not asked and is_in_parts(module):
        reason = "the model is assembled from its parts by the first run, or by --probe true"
    if reason is not None:
        report.notes.append(f"no probe was run: {reason}")
        return None
    one = devices.one_pass(plan.data)
    with report.collecting():
        measured = probe(plan.data, source, found.records, module, one, plan.seed)
        report_probe(measured, one, report)
        return measured
    return None


def select_throughput(
    stated: Throughput | None, measured: Measured | None, network: Network
) -> tuple[Throughput, str]:
    """Return the throughput of the GPU-hour estimates, and its source."""
    if measured is not None:
        return Throughput.measured(measured.samples_a_second), "fits measured here"
    if stated is not None:
        return stated, "as given"
    return Throughput().scaled(network.total), "published cost by parameters"


def n_epochs(factory: StageFactory, stage: str) -> float:
    """Return the epochs of a fit; 1 where only steps are limited."""
    epochs = str(factory.trainer_settings(stage)["max_epochs"])
    return float(epochs) if epochs.isdigit() else 1.0


def examine_encoder(plan: Plan, factory: StageFactory, needs: set[str], report: Report) -> int:
    """Return the feature dimension; 0 where none is needed or the encoder cannot be read."""
    with report.collecting():
        reach_models(plan, factory)
        return feature_width(factory.embed()) if Features.name in needs else 0
    return 0
