"""Pools whose images are packed: unpacked once, beside a list of records in LLaVA form."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from filelock import FileLock

from presel_lightning.data.conversation import is_text_only
from presel_lightning.data.entries import Entry, Fault, Record
from presel_lightning.data.fields import Packed
from presel_lightning.data.formats import AVIF, HEIC
from presel_lightning.data.forms import adopt
from presel_lightning.data.images import Track
from presel_lightning.data.json_records import json_entries
from presel_lightning.data.packages import Package
from presel_lightning.run.files import make_folder, read_json, replacing_folder, scratch, write_json
from presel_lightning.run.fingerprint import digest_lines

RECORDS, IMAGES, ORIGIN = "records.jsonl", "images", "origin.json"
PLACES = "records.places.jsonl"
"""File, number and fault of each record, a line a record."""
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
    target = folder / digest_lines(["4", *lines])
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
        with (
            (part / RECORDS).open("w", encoding="utf-8") as records,
            (part / PLACES).open("w", encoding="utf-8") as places,
        ):
            for package, name in zip(packages, names(packages), strict=True):
                samples = package.samples()
                shown = track(samples, "unpacking", None) if track else samples
                _write(shown, package, part / IMAGES, name, (records, places))


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
    if content[4:8] == b"ftyp" and content[8:12] in (*AVIF, *HEIC):
        return ".avif" if content[8:12] in AVIF else ".heic"
    if re.match(rb"P[1-6]\s", content):
        return ".ppm"
    return next((suffix for sign, suffix in SIGNS if content.startswith(sign)), ".bin")


def _write(
    samples: Iterator[Packed], package: Package, images: Path, name: str, files: Sequence[TextIO]
) -> None:
    records, places = files
    for sample in samples:
        record, fault = _adopted(sample, package)
        if fault is None and sample.absent and is_text_only(record):
            record.pop("image", None)
        else:
            record["image"], unsaved = _save_all(sample, images, name)
            fault = unsaved or fault
        try:
            line = json.dumps(record, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            plain = {key: _plain(record.get(key)) for key in ("id", package.task_key, "image")}
            line = json.dumps(plain)
            problem = "bad_number" if isinstance(error, ValueError) else "bad_row"
            fault = fault or Fault(problem, f"its fields are no JSON: {error}")
        records.write(f"{line}\n")
        places.write(f"{json.dumps([sample.file, sample.number, fault])}\n")


def _adopted(sample: Packed, package: Package) -> tuple[Record, Fault | None]:
    """The record of a sample in LLaVA's form, and why it has none.

    Its image is that of the sample, whatever path its fields give.
    """
    n = 1 + len(sample.more)
    named = [f"{sample.name}.{number}" for number in range(n)] if sample.more else sample.name
    record = {**sample.record, "image": None if sample.absent else named}
    if package.task is not None:
        record[package.task_key] = package.task
    entry = adopt(Entry(record, sample.number), package.answer_lists, package.caption_key)
    shown = entry.record.get("image")
    if isinstance(shown, list) and len(shown) > n and entry.fault is None:
        detail = f"its fields name {len(shown)} images, and it holds {0 if sample.absent else n}"
        entry.fault = Fault("image_token_count", detail)
    return dict(entry.record), entry.fault


def _plain(value: object) -> str:
    return "" if value is None else str(value)


def _save_all(sample: Packed, images: Path, name: str) -> tuple[str | list[str], Fault | None]:
    """Write the image of a sample, or all of several, which are numbered; see `_save`."""
    if not sample.more or sample.fault or sample.image is None:
        return _save(sample, images, name)
    each = (sample.image, *sample.more)
    some = (
        replace(sample, name=f"{sample.name}.{number}", image=image)
        for number, image in enumerate(each)
    )
    saved = [_save(one, images, name) for one in some]
    return [path for path, _ in saved], next((fault for _, fault in saved if fault), None)


def _save(sample: Packed, images: Path, name: str) -> tuple[str, Fault | None]:
    """Write an image; the path that its record is to have, and why there is none."""
    safe = safe_name(sample.name)
    if safe is None:  # a path that the pool refuses as `outside_root`
        return f"/{sample.name.lstrip('/')}", None
    if sample.image is None or sample.fault:
        return f"{name}/{sample.name}", Fault(sample.problem, sample.fault or sample.absent)
    relative = f"{name}/{safe}{ending(sample.image)}"
    try:
        (images / relative).parent.mkdir(parents=True, exist_ok=True)
        with (images / relative).open("xb") as handle:
            handle.write(sample.image)
    except (FileExistsError, NotADirectoryError):
        return relative, Fault("not_unpacked", "a second sample of this name")
    return relative, None


def unpacked_entries(records: Path) -> Iterator[Entry] | None:
    """Records of an unpacked pool, with the places that they were packed in.

    None where a file is not the list of one.
    """
    places = records.with_name(PLACES)
    if records.name != RECORDS or not places.is_file():
        return None
    return _placed(records, places)


def _placed(records: Path, places: Path) -> Iterator[Entry]:
    with places.open(encoding="utf-8") as lines:
        for entry, line in zip(json_entries(records), lines, strict=True):
            entry.file, entry.number, fault = json.loads(line)
            entry.fault = Fault(*fault) if fault else entry.fault
            yield entry
