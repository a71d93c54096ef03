"""Contact sheets of the selected images: a PDF for each task, to look at or to print."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from presel_lightning.data.preview import small
from presel_lightning.data.resolver import Resolver
from presel_lightning.export.selection.images import in_task
from presel_lightning.export.selection.source import SelectedSample
from presel_lightning.export.selection.target import Target

DPI = 150
PAGE = (1240, 1754)
"""Pixels of an A4 page."""
COLUMNS, ROWS = 5, 6
MARGIN, HEADING = 60, 110
WIDE, HIGH = (PAGE[0] - 2 * MARGIN) // COLUMNS, (PAGE[1] - 2 * MARGIN - HEADING) // ROWS
SIDE = 190
"""Pixels of an image's longer side."""
LINE = 18
LETTERS = 24
"""Letters of a line below an image."""
REFERENCE = "reference split"


@dataclass(frozen=True, slots=True)
class Cell:
    """One image of a sheet.

    Attributes:
        file: image file, of several the first.
        name: its path below the image root.
        score: score of the selector; -inf where there is none.
        label: what is written below it.
    """

    file: Path
    name: str
    uid: str
    score: float
    label: str


class ContactSheets(Target):
    """`TASK.pdf` of every task: its selected images, best first, then its reference split."""

    needs_instruction = False
    needs_image = False

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write the sheets of one task after another, a page in memory at a time."""
        tasks: dict[str, list[Cell]] = defaultdict(list)
        for each in samples:
            tasks[each.sample.task].append(cell_of(each))
        for task, cells in sorted(tasks.items()):
            cells.sort(key=lambda cell: (cell.label == REFERENCE, -cell.score, cell.uid))
            name = in_task(task, "x").removesuffix("/x")
            path = free(folder, name)
            for number, page in enumerate(pages(task, cells)):
                page.save(path, "PDF", resolution=DPI, quality=85, append=number > 0)


def cell_of(selected: SelectedSample) -> Cell:
    """Return what a sheet shows of a sample."""
    score = selected.facts["score"]
    known = score is not None and isfinite(score)
    reference = selected.facts["reason"] == REFERENCE
    label = REFERENCE if reference else f"score {score:.4f}" if known else "no score"
    name = selected.inside[0]
    return Cell(selected.files[0], name, selected.sample.uid, score if known else -inf, label)


def free(folder: Path, name: str) -> Path:
    """Return a path of this name that is not taken: tasks may differ in letters that no file has."""
    names = (f"{name}{'' if n == 1 else f'-{n}'}.pdf" for n in range(1, 1 << 30))
    return next(path for path in map(folder.joinpath, names) if not path.exists())


def pages(task: str, cells: Sequence[Cell]) -> Iterator[Image.Image]:
    """Draw the sheets of a task."""
    starts = range(0, len(cells), COLUMNS * ROWS)
    for number, start in enumerate(starts, start=1):
        heading = f"{task}: {len(cells):,} selected images, page {number} of {len(starts)}"
        yield sheet(heading, cells[start : start + COLUMNS * ROWS])


def sheet(heading: str, cells: Sequence[Cell]) -> Image.Image:
    """Draw one page."""
    page = Image.new("RGB", PAGE, "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(LINE - 2)
    pen.text((MARGIN, MARGIN), heading, "black", ImageFont.load_default(28))
    for place, cell in enumerate(cells):
        left = MARGIN + place % COLUMNS * WIDE
        top = MARGIN + HEADING + place // COLUMNS * HIGH
        picture = small(Resolver(cell.file.parent), cell.file.name, SIDE)
        if picture is None:
            pen.rectangle((left, top, left + SIDE, top + SIDE), outline="gray")
            pen.text((left + 10, top + 10), "cannot be opened", "gray", font)
        else:
            page.paste(picture, (left, top + SIDE - picture.height))
        for number, text in enumerate((short(cell.name), cell.label, cell.uid[:8])):
            pen.text((left, top + SIDE + 4 + number * LINE), text, "black", font)
    return page


def short(name: str) -> str:
    """Return the end of a path that fits below an image.

    >>> short("dogs/17.jpg"), short("a/very/long/path/to/one/image.jpg")
    ('dogs/17.jpg', '…g/path/to/one/image.jpg')
    """
    return name if len(name) <= LETTERS else f"…{name[1 - LETTERS :]}"
