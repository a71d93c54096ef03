"""Checks of the image files of the records."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from presel_lightning.check.report import Report, share
from presel_lightning.data.copies import line_of, same_files, summary
from presel_lightning.data.image_memory import Found
from presel_lightning.data.images import Track, Verify, scan_images
from presel_lightning.data.pixels import Pixels, counted
from presel_lightning.data.pixels import summary as pixel_lines
from presel_lightning.data.source import PoolSource

EXAMPLES = 5
"""Number of broken images that a message names."""
MOSTLY = 0.5
"""Share of missing images above which a folder is reported as missing."""


class Inspected(NamedTuple):
    """Result of `inspect_images`."""

    images: list[str]
    """The images that were checked."""
    faults: dict[str, Found]
    """The fault of each that cannot be used."""
    shown: Counter[str]
    """Images that a plain conversion does not show as viewers do; see `pixels.counted`."""


def inspect_images(
    source: PoolSource,
    images: Sequence[str],
    limit: int | None,
    seed: int,
    track: Track | None = None,
    verify: Verify = "header",
) -> Inspected:
    """Check the images, or a random sample of them.

    Args:
        source: source of the pool.
        images: (U,) distinct paths.
        limit: size of the sample; None checks all.
        seed: seed of the sample.
        track: shows progress.
        verify: whether headers are read, or images fully decoded.
    """
    sample = sorted(images)
    if limit is not None and limit < len(sample):
        sample = sorted(random.Random(seed).sample(sample, limit))
    scans = scan_images(
        source.resolver,
        sample,
        max_pixels=source.max_pixels,
        pixels=source.pixels,
        verify=verify,
        workers=source.workers,
        track=track,
        named=False,
    )
    found = Inspected(sample, {}, Counter())
    for image, _, scan in scans:
        if scan.fault is not None:
            found.faults[image] = scan.fault
        found.shown.update(counted(scan.shown))
    return found


def report_images(
    source: PoolSource,
    checked: list[str],
    n_images: int,
    faults: dict[str, Found],
    report: Report,
) -> str | None:
    """Report the images that will be left out, by top folder.

    Returns:
        A line on the image root or folders that do not hold their images, with the cure.
    """
    what = f"{len(checked):,} of {n_images:,} in {source.image_root}"
    report.add("images", "headers read", what)
    sizes = Counter(map(top_folder, checked))
    by_problem = report_faults(sizes, faults, report)
    gone = by_problem["missing"] + by_problem["outside_root"]
    lost = [folder for folder, n in gone.items() if n > MOSTLY * sizes[folder]]
    cure = "set data.image_root to the folder that image paths start from"
    if by_problem["outside_root"]:
        cure += ", or data.follow_links to true where links lead out of it"
    if not lost:
        return None
    first = min(image for image in faults if top_folder(image) in lost)
    held = ", ".join(sorted(lost)) if any(lost) else "its images"
    return (
        f"data.image_root {source.image_root} does not hold {held}: "
        f"{sum(gone[folder] for folder in lost)} of the "
        f"{sum(sizes[folder] for folder in lost)} images checked are missing, such as "
        f"{first}; {cure}"
    )


def report_faults(
    sizes: Counter[str], faults: dict[str, Found], report: Report
) -> defaultdict[str, Counter[str]]:
    """Report the images that cannot be used, by problem and top folder; return the counts.

    Args:
        sizes: checked images, by top folder.
        faults: fault of each that cannot be used.
        report: collects the results.
    """
    by_problem: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for image, (problem, _) in faults.items():
        by_problem[problem][top_folder(image)] += 1
    for problem, folders in by_problem.items():
        for folder, n in folders.most_common(6):
            figure = share(n, sizes[folder])
            report.add("images", f"left out: {problem} in {folder or 'the root'}", figure)
    return by_problem


def report_decoded(found: Inspected, n_images: int, pixels: Pixels, report: Report) -> None:
    """Report how many images were fully decoded, which could not be, and which `pixels` changes."""
    decoded, faults, shown = found
    rest = "; the share of broken images is extrapolated" if len(decoded) < n_images else ""
    report.add("images", "decoded", f"{len(decoded):,} of {n_images:,}{rest}")
    report_faults(Counter(map(top_folder, decoded)), faults, report)
    if faults:
        named = ", ".join(sorted(faults)[:EXAMPLES])
        more = f" and {len(faults) - EXAMPLES:,} more" if len(faults) > EXAMPLES else ""
        report.notes.append(
            f"{len(faults):,} of {len(decoded):,} images that were decoded are broken: {named}{more}"
        )
    of = f"of {len(decoded):,} images that were decoded, " if len(decoded) < n_images else ""
    report.notes += [of + line for line in pixel_lines(shown, pixels)]


def report_copies(source: PoolSource, images: list[str], copies: str, report: Report) -> None:
    """Report the images whose files are equal, with the largest groups.

    Args:
        source: source of the pool.
        images: usable images that were checked.
        copies: value of `data.copies`.
        report: collects the results.
    """
    found = summary(same_files(source.resolver, images))
    for group in found["largest"]:
        named = ", ".join(group["images"])
        report.add("copies", named, f"the same picture under {group['count']:,} names")
    if line := line_of({"same": found}, copies):
        report.notes.append(line)


def lost_share(images: Counter[str], checked: list[str], faults: dict[str, Found]) -> float:
    """Compute the share of the checked images' records whose image cannot be used.

    Args:
        images: number of records of each image.
        checked: checked images.
        faults: fault of each that cannot be used.
    """
    behind = sum(images[image] for image in checked)
    return sum(images[image] for image in faults) / max(1, behind)


def top_folder(image: str) -> str:
    """Return the first part of an image's path, with its slash; empty for a bare file name."""
    first, slash, _ = image.partition("/")
    return first + slash if slash else ""
