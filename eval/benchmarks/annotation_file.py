"""Benchmarks from an annotation file: one question per item, exact match in percent."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from presel_lightning.data.annotations import read_records
from presel_lightning.data.conversation import InvalidRecordError, images_of, parse, put_in
from presel_lightning.data.entries import Record
from presel_lightning.data.images import check_images
from presel_lightning.data.resolver import OutsideRoot, Resolver
from presel_lightning.data.uid import canonical
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.base import BenchmarkTask, Item, Score
from presel_lightning.eval.benchmarks.exact_match import ExactMatch, normalise
from presel_lightning.run.fingerprint import digest_file, digest_lines, fingerprint
from presel_lightning.run.ranges import Count, Tokens

QUICKSTART = "quickstart"
NAMED = 5
"""Number of invalid records that an error names; the others are counted."""


class AnnotationFile(BenchmarkTask):
    """Any LLaVA-format annotation file with known answers; exact match, averaged over tasks.

    Every answered turn is an item, with the earlier turns and their expected answers as its
    history. The file is read on first access of the items.

    Args:
        path: JSON or JSON lines; `quickstart` is the test file of the embedded pool.
        image_root: folder of the images, by default that of the file.
        name: name of the benchmark, by default the stem of the file name.
        task_key: field with a record's task; records without it form the task `name`.
        max_new_tokens: maximum tokens of an answer.
        limit: number of items, evenly spaced over the file, for a quick run.
        follow_links: whether links below `image_root` may lead out of it, as `data.follow_links`.
    """

    def __init__(
        self,
        path: str,
        image_root: str | None = None,
        name: str | None = None,
        task_key: str = "task",
        max_new_tokens: Tokens = 32,
        limit: Count | None = None,
        follow_links: bool = False,
    ) -> None:
        if limit is not None and limit < 1:
            raise UserError(
                f"benchmarks: `limit` is {limit}; give 1 or more, or null for all items"
            )
        self.path, self.image_root = path, image_root
        self.name = name or Path(path).stem
        self.task_key = task_key
        self.max_new_tokens = max_new_tokens
        self.limit = limit
        self.follow_links = follow_links
        self._items: list[Item] | None = None
        self._fingerprint: dict[str, Any] | None = None

    def fingerprint(self) -> dict[str, Any]:
        """Return file and image digests, and the settings that change items or answers."""
        if self._fingerprint is None:
            file, resolver = self._places()
            images = sorted({image for record in read_records(file) for image in _named_in(record)})
            self._fingerprint = {
                "benchmark": [type(self).__name__, 2, self.name],
                "file": digest_file(file),
                "images": digest_lines(f"{image} {_content(image, resolver)}" for image in images),
                "settings": [self.task_key, self.max_new_tokens, self.limit],
            }
        return self._fingerprint

    def items(self) -> list[Item]:
        """Return one item per answered turn, in the order of the file.

        Raises:
            UserError: a file is missing, or a record is invalid; a benchmark must be complete for
                its score to be comparable.
        """
        if self._items is None:
            self._items = self._thinned(self._read())
        return self._items

    def score(self, predictions: list[str]) -> Score:
        """Compute exact match after VQA normalization, per task, and the mean over tasks.

        Raises:
            ValueError: the number of predictions is not that of the items.
        """
        items = self.items()
        tasks = [item.task for item in items]
        # every process has all answers
        metric = ExactMatch(sorted(set(tasks)), sync_on_compute=False)
        metric.update(predictions, [item.answer for item in items], tasks)
        found = metric.compute()
        per_task = {task: float(share) for task, share in found["tasks"].items()}
        right = [
            float(normalise(guess) == normalise(item.answer))
            for guess, item in zip(predictions, items, strict=True)
        ]
        images: dict[tuple[Path, ...], int] = {}
        units = [f"{i.task} {images.setdefault(tuple(i.images), len(images))}" for i in items]
        return Score(
            float(found["macro"]),
            per_task,
            len(items),
            right,
            tasks,
            item_units=units,
            item_ids=[item.uid for item in items],
        )

    def _places(self) -> tuple[Path, Resolver]:
        """The annotation file, and what finds its images."""
        file = _quickstart_file() if self.path == QUICKSTART else Path(self.path).expanduser()
        if not file.is_file():
            raise UserError(
                f"benchmarks: {file}: no such file; set `path` of the benchmark {self.name}"
            )
        root = Path(self.image_root).expanduser() if self.image_root else file.parent
        if not root.is_dir():
            raise UserError(
                f"benchmarks: {root}: no such folder; set `image_root` of the benchmark {self.name}"
            )
        return file, Resolver(root, self.follow_links)

    def _read(self) -> list[Item]:
        file, resolver = self._places()
        records = list(read_records(file))
        faults = _faults(records, resolver)
        if faults:
            named = "; ".join(f"record {row + 1} {text}" for row, text in faults[:NAMED])
            more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
            raise UserError(
                f"benchmark {self.name}: {len(faults)} of {len(records)} records of {file} cannot "
                f"be used, and a benchmark must be complete; fix or remove: {named}{more}"
            )
        if not records:
            raise UserError(f"benchmark {self.name}: {file} holds no record")
        return [
            item
            for record in records
            for item in self._of_record(record, list(map(resolver, images_of(record))))
        ]

    def _of_record(self, record: Record, images: list[Path]) -> list[Item]:
        turns = parse(record)
        task = str(record.get(self.task_key) or self.name)
        uid = fingerprint(record)
        items = []
        for number, turn in enumerate(turns):
            before = turns[:number]
            n = sum(len(shown.images_at) for shown in turns[: number + 1])
            image, *more = images[: n or None]  # those that a later question shows are not seen yet
            question = put_in(turn.question, turn.images_at)
            about = f"{uid}-{number}", task, image, before, question, turn.answer
            items.append(Item(*about, tuple(more)))
        return items

    def _thinned(self, items: list[Item]) -> list[Item]:
        if self.limit is None or self.limit >= len(items):
            return items
        return [items[place * len(items) // self.limit] for place in range(self.limit)]


def _faults(records: list[Record], resolver: Resolver) -> list[tuple[int, str]]:
    """Return row and description of every invalid record, in order."""
    found: list[tuple[int, str]] = []
    images: dict[int, tuple[str, ...]] = {}
    seen: Counter[str] = Counter()
    for row, record in enumerate(records):
        whole = canonical(record)
        seen[whole] += 1
        try:
            images[row] = _check(record, repeated=seen[whole] > 1)
        except InvalidRecordError as error:
            found.append((row, _named(record, error.problem, str(error))))
    faulty = check_images(resolver, sorted({image for some in images.values() for image in some}))
    found += [
        (row, _named(records[row], *faulty[wrong[0]]))
        for row, some in images.items()
        if (wrong := [image for image in some if image in faulty])
    ]
    return sorted(found)


def _check(record: Record, *, repeated: bool) -> tuple[str, ...]:
    """Return the images of a valid record.

    Raises:
        InvalidRecordError: it has no answer, no image, or a problem that excludes it from a pool.
    """
    turns = parse(record)
    images = images_of(record)
    if not turns:
        raise InvalidRecordError("no_answer", "no `conversations`, so there is nothing to score")
    if not images:
        raise InvalidRecordError("no_image", "no `image` key")
    if repeated:
        raise InvalidRecordError("repeated", "repeats an earlier record whole")
    return images


def _named_in(record: Record) -> tuple[str, ...]:
    """Paths of a record's images, whatever they are; a faulty one is reported elsewhere."""
    image = record.get("image")
    return tuple(map(str, image)) if isinstance(image, list) else (str(image),)


def _named(record: Record, problem: str, detail: str) -> str:
    return f"(id {record.get('id', '-')!s:.40}): {problem}, {detail}"


def _content(image: str, resolver: Resolver) -> str:
    try:
        path = resolver(image)
    except OutsideRoot:  # an error once the items are read
        return ""
    return digest_file(path) if path.is_file() else ""


def _quickstart_file() -> Path:
    from presel_lightning.quickstart import pool

    return pool() / "test.json"
