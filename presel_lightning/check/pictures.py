"""The images that records name: which are there, and which will be left out."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from presel_lightning.check.report import Report, share
from presel_lightning.data.image_memory import Found
from presel_lightning.data.images import Track, Verify, check_images
from presel_lightning.data.source import PoolSource
from presel_lightning.errors import UserError

EXAMPLES = 5
"""Broken images that are named."""
MOSTLY = 0.5
"""Part of a folder's images that must be there for it to count as the right folder."""


def look_at(
    source: PoolSource,
    images: Sequence[str],
    limit: int | None,
    seed: int,
    track: Track | None = None,
    verify: Verify = "header",
) -> tuple[list[str], dict[str, Found]]:
    """Look at the images, or at a seeded sample of them.

    Args:
        source: where they lie.
        images: (U,) distinct paths.
        limit: look at so many; None looks at all.
        seed: of the sample.
        track: shows progress.
        verify: whether headers are read, or every pixel.

    Returns:
        The images looked at, and what is wrong with those that cannot be used.
    """
    chosen = sorted(images)
    if limit is not None and limit < len(chosen):
        chosen = sorted(random.Random(seed).sample(chosen, limit))
    faults = check_images(
        source.image_root,
        chosen,
        max_pixels=source.max_pixels,
        pixels=source.pixels,
        verify=verify,
        workers=source.workers,
        track=track,
    )
    return chosen, faults


def report_images(
    source: PoolSource,
    looked: list[str],
    n_images: int,
    faults: dict[str, Found],
    report: Report,
) -> None:
    """Show which images will be left out, by top folder, and name the folders that are not there.

    Raises nothing; a root or folder that does not hold its images becomes a failure.
    """
    what = f"{len(looked):,} of {n_images:,} in {source.image_root}"
    report.add("images", "headers read", what)
    sizes = Counter(map(top_folder, looked))
    by_problem = report_faults(sizes, faults, report)
    gone = by_problem["missing"] + by_problem["outside_root"]
    lost = [folder for folder, n in gone.items() if n > MOSTLY * sizes[folder]]
    with report.collecting():
        if lost:
            first = min(image for image in faults if top_folder(image) in lost)
            held = ", ".join(sorted(lost)) if any(lost) else "its images"
            raise UserError(
                f"data.image_root {source.image_root} does not hold {held}: "
                f"{sum(gone[folder] for folder in lost)} of the "
                f"{sum(sizes[folder] for folder in lost)} images looked at are not there, such as "
                f"{first}; set data.image_root to the folder that image paths start from"
            )


def report_faults(
    sizes: Counter[str], faults: dict[str, Found], report: Report
) -> defaultdict[str, Counter[str]]:
    """Show which images cannot be used, by problem and top folder; returns the counts.

    Args:
        sizes: images looked at, by top folder.
        faults: what is wrong with some of them.
        report: takes it down.
    """
    by_problem: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for image, (problem, _) in faults.items():
        by_problem[problem][top_folder(image)] += 1
    for problem, folders in by_problem.items():
        for folder, n in folders.most_common(6):
            figure = share(n, sizes[folder])
            report.add("images", f"left out: {problem} in {folder or 'the root'}", figure)
    return by_problem


def report_decoded(
    looked: list[str], n_images: int, faults: dict[str, Found], report: Report
) -> None:
    """Show how many images were decoded whole, and which could not be."""
    rest = "; the others are taken to be like them" if len(looked) < n_images else ""
    report.add("images", "decoded", f"{len(looked):,} of {n_images:,}{rest}")
    report_faults(Counter(map(top_folder, looked)), faults, report)
    if faults:
        named = ", ".join(sorted(faults)[:EXAMPLES])
        more = f" and {len(faults) - EXAMPLES:,} more" if len(faults) > EXAMPLES else ""
        report.notes.append(
            f"{len(faults):,} of {len(looked):,} images that were decoded are broken: {named}{more}"
        )


def lost_share(images: Counter[str], looked: list[str], faults: dict[str, Found]) -> float:
    """Part of the records behind the images looked at whose image cannot be used.

    Args:
        images: how many records show each.
        looked: images looked at.
        faults: what is wrong with some of them.
    """
    behind = sum(images[image] for image in looked)
    return sum(images[image] for image in faults) / max(1, behind)


def top_folder(image: str) -> str:
    """First part of an image's path, with its slash; empty for a bare file name."""
    first, slash, _ = image.partition("/")
    return first + slash if slash else ""
