"""Pools whose images are packed: unpacked once, beside a list of records in LLaVA form."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from filelock import FileLock

from presel_lightning.data.fields import Packed, lost
from presel_lightning.data.images import Track
from presel_lightning.data.packages import Package
from presel_lightning.run.files import make_folder, read_json, replacing_folder, scratch, write_json
from presel_lightning.run.fingerprint import digest_lines

RECORDS, IMAGES, ORIGIN = "records.jsonl", "images", "origin.json"
MAX_PART = 120
"""Bytes of a part of a path; a longer one is shortened."""
SIGNS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tiff"),
    (b"MM\0*", ".tiff"),
)


def unpack(packages: Sequence[Package], folder: Path, track: Track | None = None) -> Path:
    """Unpack pools to `folder/<digest>/{images, records.jsonl}`; give back `folder/<digest>`.

    The digest is that of the names, sizes and times of change of the packed files: while they stay
    as they are, what was unpacked is used again. It appears under its name when it is whole; an
    unpacking that was killed starts over. What was unpacked before from other files is removed. A
    command that keeps nothing (`store.keeping_nothing`) unpacks to a folder that goes with it.

    Raises:
        UserError: a package is not what it seems to be.
        StorageError: there is no room to unpack it.
    """
    lines = [line for package in packages for line in package.facts()]
    target = folder / digest_lines(["1", *lines])
    if (temporary := scratch()) is not None:
        if target.exists():
            return target
        folder, target = temporary / "unpacked", temporary / "unpacked" / target.name
    make_folder(folder)
    with FileLock(folder / ".lock"):
        if not target.exists():
            _make(packages, target, track)
        write_json(target / ORIGIN, [str(package.path) for package in packages])
        for other in folder.iterdir():
            if other.is_dir() and other != target:
                shutil.rmtree(other)
    return target


def _make(packages: Sequence[Package], target: Path, track: Track | None) -> None:
    # an fsync for every image takes longer than writing it
    with replacing_folder(target, many=True) as part:
        (part / IMAGES).mkdir()
        with (part / RECORDS).open("w", encoding="utf-8") as records:
            for package, name in zip(packages, names(packages), strict=True):
                samples = package.samples()
                shown = track(samples, "unpacking", None) if track else samples
                _write(shown, package, part / IMAGES, name, records)


def unpacked_before(paths: Iterable[Path], folder: Path) -> Path | None:
    """Where the images of these packages lie, whether the packages still exist or not."""
    wanted = [str(path) for path in paths]
    for origin in folder.glob(f"*/{ORIGIN}"):
        if read_json(origin) == wanted:
            return origin.parent / IMAGES
    return None


def names(packages: Sequence[Package]) -> list[str]:
    """Folder of each package below the images: its own name, numbered where it occurs again."""
    given: list[str] = []
    for package in packages:
        path = package.path.absolute()
        name = safe_name(path.name if path.is_dir() else path.stem) or "pool"
        again = sum(other == name or other.startswith(f"{name}~") for other in given)
        given.append(f"{name}~{again + 1}" if again else name)
    return given


def safe_name(name: str) -> str | None:
    """Relative path that can do no harm; None for one that is absolute or climbs.

    Hidden parts, odd characters and long parts are changed, and a changed part ends in a hash of
    what it was, so that distinct names stay distinct.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or not parts:
        return None
    return "/".join(map(_safe_part, parts))


def _safe_part(part: str) -> str:
    plain = re.sub(r"[^\w.+=@,() -]", "_", part)
    plain = re.sub(r"^[.~ -]|[. ]$", "_", plain)
    if len(plain.encode()) > MAX_PART:
        plain = plain.encode()[:MAX_PART].decode(errors="ignore")
    if plain == part:
        return part
    mark = hashlib.blake2b(part.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{plain}~{mark}"


def ending(content: bytes) -> str:
    """Ending of an image file by its first bytes; `.bin` for what the pool does not read."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    if re.match(rb"P[1-6]\s", content):
        return ".ppm"
    return next((suffix for sign, suffix in SIGNS if content.startswith(sign)), ".bin")


def _write(
    samples: Iterator[Packed], package: Package, images: Path, name: str, records: TextIO
) -> None:
    for sample in samples:
        record = dict(sample.record)
        if package.task is not None:
            record[package.task_key] = package.task
        record["image"] = _save(sample, images, name)
        try:
            line = json.dumps(record, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            plain = {key: str(record.get(key) or "") for key in ("id", package.task_key)}
            image = lost(f"{name}/{sample.name}", f"its fields are no JSON: {error}")
            line = json.dumps({**plain, "image": image})
        records.write(f"{line}\n")


def _save(sample: Packed, images: Path, name: str) -> str:
    """Write an image; the path that its record is to have."""
    safe = safe_name(sample.name)
    if safe is None:  # a path that the pool refuses as `outside_root`
        return f"/{sample.name.lstrip('/')}"
    if sample.image is None:
        return lost(f"{name}/{sample.name}", sample.fault)
    relative = f"{name}/{safe}{ending(sample.image)}"
    try:
        (images / relative).parent.mkdir(parents=True, exist_ok=True)
        with (images / relative).open("xb") as handle:
            handle.write(sample.image)
    except (FileExistsError, NotADirectoryError):
        return lost(f"{name}/{sample.name}", "a second sample of this name")
    return relative
