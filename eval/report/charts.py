"""Charts of rows as inline SVG: no script, no network, colors from the page's style sheet.

A chart is 400 units wide and grows downward, so that text stays readable on a phone. Each has a
title and a description for screen readers, and each mark has a title with its value. The page's
style sheet colors the classes `s0`, `s1`, ... (one per series). Every text has room of its own:
labels in a gutter at the left, values behind their bars, up to a margin as wide as the widest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from presel_lightning.eval.report.layout import FONT, LINE, fitted, number, text_width, ticks_within

WIDTH = 400
GUTTER = 130
"""Maximum width of the labels at the left."""
GAP = 6
"""Between a text and what it belongs to."""

Values = Sequence[float | None]
Format = Callable[[float], str]


class Chart(NamedTuple):
    """A drawing and its heading."""

    title: str
    svg: Markup


def bars(
    name: str,
    title: str,
    rows: Sequence[tuple[str, Values]],
    series: Sequence[tuple[str, str]],
    form: Format = number,
) -> Chart:
    """Draw horizontal bars from zero, one per series in every row.

    Args:
        name: id, unique on the page; letters and dashes.
        title: title of the chart.
        rows: label, and one value per series; None is shown as n/a.
        series: name and CSS class of each.
        form: formats a value.
    """
    texts = [["n/a" if v is None else form(v) for v in values] for _, values in rows]
    left = gutter(label for label, _ in rows)
    room = WIDTH - left - margin(text for each in texts for text in each)
    largest = max((v for _, values in rows for v in values if v is not None), default=0.0)
    scale = room / largest if largest > 0 else 0.0
    parts, top = legend(series)
    y = top
    for (label, values), known in zip(rows, texts, strict=True):
        parts.append(_label(label, left, y + LINE * len(series) / 2))
        for (serie, style), value, text in zip(series, values, known, strict=True):
            length = 0.0 if value is None else max(value, 0.0) * scale
            parts.append(
                f"<g><title>{escape(label)}, {escape(serie)}: {escape(text)}</title>"
                f'<rect class="{style}" x="{left:.1f}" y="{y + 0.5:.1f}" width="{length:.1f}" '
                f'height="{LINE - 2}" rx="1.5"/>{_value(text, left + length, y + LINE / 2)}</g>'
            )
            y += LINE
        y += GAP
    parts.append(f'<path class="axis" d="M{left:.1f} {y - GAP + 2:.1f}V{top - 2}"/>')
    description = f"{len(rows)} rows; " + ", ".join(serie for serie, _ in series)
    return drawing(name, title, description, parts, y)


def intervals(
    name: str,
    title: str,
    rows: Sequence[tuple[str, float, float | None, float | None]],
    digits: int = 1,
) -> Chart:
    """Draw a dot and its interval in every row, on a scale of their own that contains zero.

    Args:
        name: id, unique on the page.
        title: title of the chart.
        rows: label, value, and lower and upper end of the interval where there is one.
        digits: of the values, behind the point.
    """
    ends = [end for _, value, low, high in rows for end in (value, low, high) if end is not None]
    labels = gutter(label for label, *_ in rows)
    right = WIDTH - margin(f"{value:+.{digits}f}" for _, value, _, _ in rows)
    marks, shown = ticks_within(min([*ends, 0.0]), max([*ends, 0.0]), right - labels - 3 * FONT)
    left = labels + text_width(shown[0]) / 2
    scale = (right - left) / (marks[-1] - marks[0])
    y, parts = 4.0, []
    base = y + 20 * len(rows) + 2
    for mark, text in zip(marks, shown, strict=True):
        x = left + (mark - marks[0]) * scale
        style = "axis zero" if mark == 0 else "axis"
        parts.append(f'<path class="{style}" d="M{x:.1f} {y}V{base:.1f}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{base + 13:.1f}">{text}</text>')
    for label, value, start, end in rows:
        x = left + (value - marks[0]) * scale
        known = [f"{each:+.{digits}f}" for each in (value, start, end) if each is not None]
        text = known[0] + (f" [{', '.join(known[1:])}]" if known[1:] else "")
        bar, last = "", x + 4
        if start is not None and end is not None:
            a, b = (left + (each - marks[0]) * scale for each in (start, end))
            bar = f'<path class="reach s0" d="M{a:.1f} {y + 10}H{b:.1f}" stroke-width="2"/>'
            last = max(last, b)
        parts.append(_label(label, labels, y + 10))
        parts.append(
            f"<g><title>{escape(label)}: {text}</title>{bar}"
            f'<circle class="s0" cx="{x:.1f}" cy="{y + 10}" r="4"/>'
            f"{_value(known[0], last, y + 10)}</g>"
        )
        y += 20
    return drawing(name, title, f"{len(rows)} rows around zero", parts, base + 18)


def spans(name: str, title: str, rows: Sequence[tuple[str, float, str]]) -> Chart:
    """Draw a timeline: one bar per row, each starting at the end of the previous one.

    Args:
        name: id, unique on the page.
        title: title of the chart.
        rows: label, length, and text behind the bar.
    """
    whole = sum(length for _, length, _ in rows) or 1.0
    left = gutter(label for label, _, _ in rows)
    scale = (WIDTH - left - margin(text for _, _, text in rows) - 1) / whole
    parts, y, x = [], 4.0, left
    for label, length, text in rows:
        width = max(length * scale, 1.0)
        parts.append(_label(label, left, y + 7))
        parts.append(
            f"<g><title>{escape(label)}: {escape(text)}</title>"
            f'<rect class="s0" x="{x:.1f}" y="{y + 1:.1f}" width="{width:.1f}" height="12" '
            f'rx="1.5"/>{_value(text, x + width, y + 7)}</g>'
        )
        x += length * scale
        y += 19
    parts.append(f'<path class="axis" d="M{left:.1f} {y - 4}V3"/>')
    return drawing(name, title, f"{len(rows)} rows, one after another", parts, y)


def gutter(labels: Iterable[str]) -> float:
    """Return the width of the labels at the left, and of the gap behind them."""
    return min(GUTTER, max(map(text_width, labels), default=0.0)) + GAP


def margin(texts: Iterable[str]) -> float:
    """Return the width of the texts at the right, and of the gap before them."""
    return max(map(text_width, texts), default=0.0) + GAP


def legend(series: Sequence[tuple[str, str]]) -> tuple[list[str], float]:
    """Draw the legend, in as many lines as it takes; return it, and the top of the chart below it.

    A single series has none.
    """
    if len(series) == 1:
        return [], 8.0
    parts, x, y = [], 2.0, 3.0
    for label, style in series:
        short = fitted(label, WIDTH - 20)
        width = 13 + text_width(short)
        if x > 2 and x + width > WIDTH:
            x, y = 2.0, y + LINE + 2
        parts.append(f'<rect class="{style}" x="{x:.1f}" y="{y + 1}" width="9" height="9" rx="2"/>')
        parts.append(
            f'<text x="{x + 13:.1f}" y="{y + 10}"><title>{escape(label)}</title>{escape(short)}</text>'
        )
        x += width + 12
    return parts, y + LINE + 8


def drawing(name: str, title: str, description: str, parts: Sequence[str], height: float) -> Chart:
    """Put the parts of a chart together; every text inside has been escaped."""
    svg = Markup(
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>{"".join(parts)}</svg>'
    )
    return Chart(title, svg)


def _label(label: str, right: float, middle: float) -> str:
    return (
        f"<g><title>{escape(label)}</title>"
        f'<text class="label" x="{right - GAP:.1f}" y="{middle + FONT / 3:.1f}">'
        f"{escape(fitted(label, GUTTER))}</text></g>"
    )


def _value(text: str, end: float, middle: float) -> str:
    return f'<text class="value" x="{end + GAP - 1:.1f}" y="{middle + FONT / 3:.1f}">{escape(text)}</text>'
