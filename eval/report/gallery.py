"""The gallery of a page: its images, and their thumbnails as data URLs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from presel_lightning.data.preview import small
from presel_lightning.data.resolver import Resolver, resolver_of
from presel_lightning.errors import UserError
from presel_lightning.eval.report.details import with_details
from presel_lightning.eval.report.samples import (
    CHOSEN,
    LEFT_OUT,
    REFERENCE,
    Samples,
    image_counts,
    image_names,
)

Json = dict[str, Any]

SIDE = 80
"""Pixels of a thumbnail's longer side."""
SIDES = (480, 384, 320, 256, 192, 128)
"""Pixels of an image that is opened, where the page has room."""
IN_PAGE = 6 << 20
"""Characters of all images of a page."""
SAMPLED = 8
QUALITY = 60
PER_TASK = 24
"""Maximum selected images of a task on a page, and of those left out."""
IN_ALL = 1200


def read_gallery(out: Path, samples: Samples) -> Json:
    """Pick the images of every task that a page shows.

    These are the best selected ones, some of the reference split, and the best and worst left out.

    Returns:
        `items`, task by task in that order, each with uid, task, kind, score, cluster, reason and
        image, of several images the first and `n_images`; `per_task`, the maximum of a kind per task;
        and `chosen` and `left_out`, the counts in all.
    """
    each = min(PER_TASK, max(1, IN_ALL // (2 * max(len(samples.tasks), 1))))
    items: list[Json] = []
    for task, name in enumerate(samples.tasks):
        selected = by_score(samples, samples.rows(task, CHOSEN))[:each]
        rows = by_score(samples, samples.rows(task, LEFT_OUT))
        ends = rows if len(rows) <= each else np.r_[rows[: each - each // 2], rows[-(each // 2) :]]
        drawn = samples.rows(task, REFERENCE)[: each // 3]
        for kind, found in ((CHOSEN, selected), (REFERENCE, drawn), (LEFT_OUT, ends[:each])):
            items += [{"task": name, "kind": kind, **fact} for fact in facts_of(samples, found)]
    uids = [item["uid"] for item in items]
    images, counts = image_names(out, uids), image_counts(out, uids)
    several = {uid: {"n_images": count} for uid, count in counts.items()}
    items = [
        {**item, "image": images.get(item["uid"]), **several.get(item["uid"], {})} for item in items
    ]
    return {
        "items": with_details(out, samples, items),
        "per_task": each,
        "chosen": int((samples.kind == CHOSEN).sum()),
        "left_out": int((samples.kind == LEFT_OUT).sum()),
    }


def facts_of(samples: Samples, rows: np.ndarray) -> list[Json]:
    """Return what `selection.parquet` has of some rows."""
    columns = {
        "uid": samples.names(rows),
        "score": samples.scores(rows),
        "cluster": [number if number >= 0 else None for number in samples.cluster[rows].tolist()],
        "reason": samples.reason[rows].tolist(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def by_score(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Sort rows by descending score; rows without one last, ties by uid."""
    score = np.nan_to_num(samples.score[rows], nan=-np.inf)
    return rows[np.lexsort((samples.uid[rows], -score))]


def find_root(run: Path, given: Path | None = None) -> Resolver | None:
    """Return what finds a run's images; None where their folder does not exist now.

    Args:
        run: the run folder.
        given: folder of the images; by default that of config.yaml.
    """
    from presel_lightning.data.run_images import image_resolver

    try:
        return image_resolver(run, given)
    except (UserError, OSError, KeyError):
        return None


def thumbnails(
    root: Path | Resolver | None, images: Iterable[str | None], *, large: bool = False
) -> dict[str, str]:
    """Make thumbnails as data URLs, by path; images that cannot be opened are skipped.

    Args:
        root: image root, or what finds the images below it; None gives no thumbnails.
        images: paths relative to it.
        large: make them as large as a page holds, rather than SIDE pixels.
    """
    if root is None:
        return {}
    resolver = resolver_of(root)
    names = list(dict.fromkeys(name for name in images if name is not None))
    side, size = side_for(resolver, names) if large else SIDE, 0
    found = {}
    for image in names:
        picture = small(resolver, image, side if size < IN_PAGE else SIDE)
        if picture is not None:
            found[image] = data_url(picture)
            size += len(found[image])
    return found


def side_for(resolver: Resolver, images: Sequence[str]) -> int:
    """Return the largest of SIDES at which images fit into a page, by the size of a few of them."""
    sample = images[:: max(1, len(images) // SAMPLED)][:SAMPLED]
    for side in SIDES:
        pictures = [small(resolver, image, side) for image in sample]
        sizes = [len(data_url(picture)) for picture in pictures if picture is not None]
        if sum(sizes) * len(images) <= IN_PAGE * max(len(sizes), 1):
            return side
    return SIDE


def data_url(picture: Image.Image) -> str:
    """Encode a picture as a data URL."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
