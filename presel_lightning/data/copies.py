"""The same picture under several names, and pictures that look alike: counted, and the largest named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from presel_lightning.data.build import seen_path
from presel_lightning.data.images import DIGEST
from presel_lightning.data.pool import bytes16
from presel_lightning.data.resolver import OutsideRoot, Resolver, resolver_of
from presel_lightning.run.fingerprint import digest_bytes

LARGEST = 5
"""Groups that are named."""
NAMED = 3
"""Images of a group that are named."""
NEAR = 4
"""Bits of 64 that the hashes of two near copies differ in at most."""
BANDS = 4
"""Parts of a hash; of two within `NEAR` bits most pairs agree in one of them."""
CROWD = 512
"""Pictures that agree in a part of the hash up to which each is compared with each."""

Json = dict[str, Any]


def read_copies(out: Path) -> Json:
    """Groups of equal and of near pictures of a pool: `same` and `near`; see `summary`.

    Args:
        out: run folder that `build_pool` wrote.
    """
    table = pq.read_table(seen_path(out), columns=["image", "digest", "look"])
    images = np.array(table["image"].to_pylist(), dtype=object)
    digests = bytes16(table["digest"])
    usable = digests != np.zeros(1, digests.dtype)
    _, first, place = np.unique(digests[usable], return_index=True, return_inverse=True)
    shown = images[usable]
    looks = table["look"].to_numpy()[usable][first]
    same = groups_of(place, shown)
    return {"same": summary(same), "near": summary(groups_of(near(looks), shown[first]))}


def summary(groups: Iterable[Sequence[str]]) -> Json:
    """Counts of groups of images, and the largest of them.

    Returns:
        `pictures`: groups; `names`: images in them; `largest`: count and first images of each.
    """
    ordered = sorted(groups, key=lambda group: (-len(group), group[0]))
    return {
        "pictures": len(ordered),
        "names": sum(map(len, ordered)),
        "largest": [
            {"count": len(group), "images": list(group[:NAMED])} for group in ordered[:LARGEST]
        ],
    }


def groups_of(labels: np.ndarray, images: np.ndarray) -> Iterator[list[str]]:
    """The images of each label that several have, sorted.

    Args:
        labels: (U,) integers.
        images: (U,) paths.
    """
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        if len(rows) > 1:
            yield sorted(images[rows].tolist())


def near(looks: np.ndarray) -> np.ndarray:
    """Label pictures alike whose perceptual hashes differ in at most `NEAR` bits.

    Args:
        looks: (U,) hashes; 0 for a picture that has none.

    Returns:
        (U,) labels.
    """
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for band in range(BANDS):
        parts = (looks >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(parts, kind="stable")
        starts = np.flatnonzero(np.diff(parts[order].astype(np.int64), prepend=-1))
        for rows in np.split(order, starts[1:]):
            rows = rows[looks[rows] != 0]
            if len(rows) > 1:
                pairs.append(_close(looks, rows))
    one, other = np.concatenate(pairs, axis=1)
    links = coo_array((np.ones(len(one)), (one, other)), shape=(len(looks), len(looks)))
    _, labels = connected_components(links, directed=False)
    found: np.ndarray = labels
    return found


def _close(looks: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Pairs of near rows, (2, P); of a crowd those of neighbours in the order of the hashes."""
    if len(rows) > CROWD:
        rows = rows[np.argsort(looks[rows], kind="stable")]
        one, other = rows[:-1], rows[1:]
    else:
        upper = np.triu_indices(len(rows), 1)
        one, other = rows[upper[0]], rows[upper[1]]
    differ = np.bitwise_count(looks[one] ^ looks[other])
    return np.stack([one, other])[:, differ <= NEAR]


def same_files(root: Path | Resolver, images: Sequence[str]) -> list[list[str]]:
    """Groups of images whose files hold the same bytes.

    Only files of equal size are read.

    Args:
        root: folder that paths are relative to, or what finds the images below it.
        images: (U,) distinct paths.
    """
    resolver = resolver_of(root)
    paths: dict[str, Path] = {}
    sizes: dict[int, list[str]] = defaultdict(list)
    for image in images:
        try:
            paths[image] = resolver(image)
            sizes[paths[image].stat().st_size].append(image)
        except (OutsideRoot, OSError):  # a problem of its own
            continue
    groups: dict[bytes, list[str]] = defaultdict(list)
    for several in sizes.values():
        if len(several) > 1:
            _digest_all(several, paths, groups)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def _digest_all(
    images: Iterable[str], paths: Mapping[str, Path], groups: dict[bytes, list[str]]
) -> None:
    for image in images:
        try:
            groups[digest_bytes(paths[image], DIGEST)].append(image)
        except OSError:
            continue


def line_of(found: Json, copies: str) -> str | None:
    """Line on the copies of a pool; None where there are none.

    Args:
        found: see `read_copies`.
        copies: value of `data.copies`.
    """
    same = found["same"]
    if not same["pictures"]:
        return None
    most = same["largest"][0]
    what = "picture lies" if same["pictures"] == 1 else "pictures lie"
    rule = (
        "each is selected once in a task; data.copies: keep selects it under each name"
        if copies == "once"
        else "each may be selected under every name; data.copies: once selects it once in a task"
    )
    return (
        f"{same['pictures']} {what} under {same['names']} names, one under {most['count']}, such as "
        f"{' and '.join(most['images'][:2])}: {rule}"
    )
