"""Pictures of the report for loggers: contact sheets and maps as bitmaps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from presel_lightning.data.preview import small
from presel_lightning.data.resolver import Resolver, resolver_of
from presel_lightning.eval.report.cluster_map import SIDE as MAP_SIDE
from presel_lightning.eval.report.gallery import SIDE
from presel_lightning.eval.report.samples import CHOSEN, LEFT_OUT, REFERENCE

Json = dict[str, Any]

IN_ROW = 12
EDGE = 20
COLORS = {LEFT_OUT: "#aab3c0", CHOSEN: "#2f6fde", REFERENCE: "#d9822b"}


def contact_sheets(report: Json, root: Path | Resolver) -> Iterator[tuple[str, Image.Image]]:
    """Yield one picture per task: selected images in the first row, left-out ones in the second."""
    resolver = resolver_of(root)
    items = report["gallery"]["items"] if report["gallery"] else []
    for task in dict.fromkeys(item["task"] for item in items):
        sheet = Image.new("RGB", (IN_ROW * SIDE, 2 * SIDE), "white")
        for row, kind in enumerate((CHOSEN, LEFT_OUT)):
            shown = [i["image"] for i in items if i["task"] == task and i["kind"] == kind]
            for place, image in enumerate(shown[:IN_ROW]):
                picture = small(resolver, image, SIDE) if image else None
                if picture is not None:
                    sheet.paste(picture, (place * SIDE, row * SIDE))
        yield task, sheet


def map_pictures(report: Json) -> Iterator[tuple[str, Image.Image]]:
    """Yield the map of every task: left out gray, selected blue, reference orange."""
    for found in report["maps"]:
        points = found["points"]
        side = MAP_SIDE // 2 + 2 * EDGE
        picture = Image.new("RGB", (side, side), "white")
        pen = ImageDraw.Draw(picture)
        rows = zip(points["kind"], points["x"], points["y"], strict=True)
        for kind, x, y in sorted(rows):
            reach = 2 if kind == LEFT_OUT else 4
            px, py = x // 2 + EDGE, side - y // 2 - EDGE
            pen.ellipse((px - reach, py - reach, px + reach, py + reach), fill=COLORS[kind])
        yield found["task"], picture
