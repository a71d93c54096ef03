"""One pass over the annotations: counts of the records by kind, and a random sample of them."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from presel_lightning.check.report import Report, share
from presel_lightning.console import size
from presel_lightning.data.build import examined_row
from presel_lightning.data.conversation import InvalidRecordError, images_of, parse
from presel_lightning.data.entries import Entry, Record
from presel_lightning.data.foreign import nothing_usable
from presel_lightning.data.images import Track
from presel_lightning.data.record_file import Row, digest_of
from presel_lightning.data.source import PoolSource, first_question
from presel_lightning.data.uid import uid_of
from presel_lightning.records import Turn

SHOWN = 12
"""Number of tasks in the output; the others are counted."""
EXAMPLES = 3
"""Number of records that a failure names."""


@dataclass
class Survey:
    """Counts and samples of the annotations.

    Attributes:
        n_records: number of records.
        text_only: records without an image.
        tasks: valid image records by task.
        without_instruction: those of them without a conversation.
        invalid: records that will be left out, by problem.
        details: details of the first record of each problem.
        untasked: descriptions of some records that no key, file or rule assigns a task.
        images: number of valid records by image path.
        several: valid records with several images.
        sample: conversations of a random sample of valid records.
        records: the records of `sample`.
        passed_over: files of folders that are no pictures, by kind.
        notices: lines that say how something was read.
        texts: conversations of a random sample of the text-only records.
        keys: fields of the first record with neither image nor conversation.
        digests: of each valid record, 8 bytes.
        exclude: uids of the records that are left out on request.
        excluded: number of these records; they are not among the valid ones.
        groups: with `exclude`, number of each record among those of its task, image and id. It is
            one in the order of the file, which gives the same counts as the one of the pool.
    """

    n_records: int = 0
    text_only: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    without_instruction: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    untasked: list[str] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)
    several: int = 0
    sample: list[tuple[Turn, ...]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    texts: list[tuple[Turn, ...]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    notices: list[str] = field(default_factory=list)
    digests: array[int] = field(default_factory=lambda: array("Q"))
    exclude: Collection[str] = ()
    excluded: int = 0
    groups: dict[bytes, dict[bytes, int]] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """Valid records, before their images are checked."""
        return self.tasks.total()

    def take(self, entry: Entry) -> tuple[Turn, ...] | None:
        """Count one record; return its turns where it is valid or text-only."""
        self.n_records += 1
        record = entry.record
        try:
            row = examined_row(entry)
        except InvalidRecordError as error:
            self._leave_out(entry, error)
            return None
        turns = parse(record)
        if "key" not in row:
            self.text_only += 1
            return turns
        digest = digest_of([row["task"], record])
        self.digests.append(int.from_bytes(digest[:8]))
        if self.exclude and self._uid(row, digest) in self.exclude:
            self.excluded += 1
            return None
        images = images_of(record)
        self.images.update(images)
        self.several += len(images) > 1
        self.tasks[row["task"]] += 1
        self.without_instruction += not turns
        return turns

    def _uid(self, row: Row, digest: bytes) -> str:
        group = self.groups.setdefault(row["key"], {})
        number = group.setdefault(digest, len(group))
        return uid_of(row["task"], row["images"] or row["image"], row["id"], number)

    def count_repeated(self) -> None:
        """Leave out the records that repeat another whole."""
        if repeated := len(self.digests) - len(np.unique(self.digests)):
            self.invalid["repeated_record"] += repeated

    def _leave_out(self, entry: Entry, error: InvalidRecordError) -> None:
        self.invalid[error.problem] += 1
        self.details.setdefault(error.problem, str(error))
        if error.problem == "no_image":
            self.keys = self.keys or sorted(entry.record)[:5]
        if error.problem == "unknown_task" and len(self.untasked) < EXAMPLES:
            question = " ".join(first_question(entry.record).split())[:60]
            asked = f" {question!r}" if question else ""
            self.untasked.append(f"{entry.record['image']}{asked}")


def survey(source: PoolSource, n_sample: int, seed: int, track: Track | None = None) -> Survey:
    """Read every record once, and keep a uniform random sample (reservoir sampling).

    Raises:
        UserError: a file holds something other than records.
    """
    found = Survey(exclude=source.exclude)
    rng, other = random.Random(seed), random.Random(seed)
    seen = 0
    stream = source.entries(found.passed_over, found.notices)
    for entry in track(stream, "reading records", None) if track else stream:
        turns, record = found.take(entry), entry.record
        if not turns:
            continue
        if record.get("image") is None:
            if (place := place_of(found.text_only, n_sample, other)) is not None:
                found.texts[place : place + 1] = [turns]
            continue
        seen += 1
        if (place := place_of(seen, n_sample, rng)) is not None:
            found.sample[place : place + 1] = [turns]
            found.records[place : place + 1] = [record]
    found.count_repeated()
    return found


def place_of(number: int, n_sample: int, rng: random.Random) -> int | None:
    """Return the reservoir slot of the number-th item of a stream, from 1; None if it is skipped."""
    place = number - 1 if number <= n_sample else rng.randrange(number)
    return place if place < n_sample else None


def report_survey(found: Survey, source: PoolSource, report: Report) -> None:
    """Report the counts of the annotations."""
    for _, path in source.files:
        what = "folders of images" if path.is_dir() else size(path.stat().st_size)
        report.add("files", path.name, f"{what} in {path.parent}")
    if found.passed_over:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in found.passed_over.most_common())
        report.add("files", "passed over, no pictures", kinds)
    report.notes += found.notices
    report.add("records", "all", f"{found.n_records:,}")
    report.add("records", "with image and task", f"{found.n_samples:,}")
    if found.several:
        report.add("records", "with several images", share(found.several, found.n_samples))
    what = "trained on beside the pool" if source.text_only else "kept apart"
    report.add("records", f"text only, {what}", f"{found.text_only:,}")
    if found.without_instruction:
        report.add(
            "records", "no instruction yet", share(found.without_instruction, found.n_samples)
        )
    if found.exclude:
        report.add("records", "left out by data.exclude", share(found.excluded, found.n_records))
    for problem, n in found.invalid.most_common():
        report.add("records", f"left out: {problem}", share(n, found.n_records))
    for task, n in found.tasks.most_common(SHOWN):
        report.add("tasks", task, share(n, found.n_samples))
    if (more := len(found.tasks) - SHOWN) > 0:
        rest = sum(n for _, n in found.tasks.most_common()[SHOWN:])
        report.add("tasks", f"{more} more", share(rest, found.n_samples))


def causes(found: Survey, source: PoolSource) -> list[str]:
    """Return why many records are left out, or all of them, with the cure."""
    messages = []
    formless, untasked = found.invalid["no_image"], found.invalid["unknown_task"]
    if 2 * formless > found.n_records:
        fields = ", ".join(found.keys) or "none"
        messages.append(
            f"{formless} of {found.n_records} records of data.annotations have neither `image` nor "
            f"`conversations` (fields: {fields}): not LLaVA's format; expected a JSON list or JSON "
            "lines of {id, image, conversations: [{from, value}]}"
        )
    if untasked:
        if source.task_rules:
            cure = "add a rule to data.task_rules, or a last one {task: rest}"
        elif any(path.is_dir() for _, path in source.files):
            cure = "they are beside the folders of the tasks; move them into one"
        else:
            cure = (
                f"no field {source.task_key!r}: set data.task_key, data.task_files or "
                "data.task_rules"
            )
        examples = "; ".join(found.untasked)
        have = "1 record has" if untasked == 1 else f"{untasked} records have"
        messages.append(f"{have} no task, such as {examples}: {cure}")
    if not found.n_samples and not messages:
        named = ", ".join(str(path) for _, path in source.files)
        kinds = "; ".join(f"{problem}: {detail}" for problem, detail in found.details.items())
        messages.append(
            f"no record of data.annotations can be used ({kinds}); expected a JSON list or JSON "
            "lines of {id, image, conversations: [{from, value}]}"
            if kinds
            else nothing_usable(named, found.passed_over, found.text_only)
        )
    return messages
