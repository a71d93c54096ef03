"""Charts as inline SVG: no script, no network, colors from the page's style sheet.

A chart is 400 units wide and grows downward, so that text stays readable on a phone. Each has a
title and a description for screen readers, and each mark has a title with its value. The page's
style sheet colors the classes `s0`, `s1`, ... (one per series).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

WIDTH = 400
GUTTER = 112
"""Width of the labels at the left."""
RIGHT = 46
"""Width of the values at the right."""
LETTERS = 16
"""Maximum characters of a label."""

Values = Sequence[float | None]
Format = Callable[[float], str]


class Chart(NamedTuple):
    """A drawing and its heading."""

    title: str
    svg: Markup


def number(value: float) -> str:
    """Format a value: three significant digits, or an integer."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


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
    largest = max((v for _, values in rows for v in values if v is not None), default=0.0)
    scale = (WIDTH - GUTTER - RIGHT) / (largest or 1.0)
    thick = 13 if len(series) == 1 else 12
    parts, y = _legend(series)
    for label, values in rows:
        middle = y + thick * len(series) / 2
        parts.append(_label(label, middle))
        for (serie, style), value in zip(series, values, strict=True):
            parts.append(_bar(label, serie, style, value, (y, thick, scale), form))
            y += thick
        y += 7
    parts.append(f'<path class="axis" d="M{GUTTER} {y - 4}V{_top(series) - 3}"/>')
    description = f"{len(rows)} rows; " + ", ".join(serie for serie, _ in series)
    return _svg(name, title, description, "".join(parts), y)


def _bar(
    label: str,
    serie: str,
    style: str,
    value: float | None,
    place: tuple[float, float, float],
    form: Format,
) -> str:
    y, thick, scale = place
    length = 0.0 if value is None else max(value, 0.0) * scale
    text = "n/a" if value is None else form(value)
    return (
        f"<g><title>{escape(label)}, {escape(serie)}: {escape(text)}</title>"
        f'<rect class="{style}" x="{GUTTER}" y="{y:.1f}" width="{length:.1f}" '
        f'height="{thick - 1}" rx="1.5"/>'
        f'<text x="{GUTTER + length + 4:.1f}" y="{y + thick / 2 + 3:.1f}">{escape(text)}</text></g>'
    )


def _label(label: str, middle: float) -> str:
    short = label if len(label) <= LETTERS else label[: LETTERS - 1] + "…"
    return (
        f"<g><title>{escape(label)}</title>"
        f'<text class="label" x="{GUTTER - 6}" y="{middle + 3:.1f}">{escape(short)}</text></g>'
    )


def intervals(
    name: str,
    title: str,
    rows: Sequence[tuple[str, float, float | None, float | None]],
    digits: int = 1,
) -> Chart:
    """Draw a dot and its interval in every row, on both sides of zero.

    Args:
        name: id, unique on the page.
        title: title of the chart.
        rows: label, value, and lower and upper end of the interval where there is one.
        digits: of the values, behind the point.
    """
    ends = [end for _, value, low, high in rows for end in (value, low, high) if end is not None]
    low, high = min([*ends, 0.0]), max([*ends, 0.0])
    scale = (WIDTH - GUTTER - RIGHT) / ((high - low) or 1.0)
    zero, y = GUTTER - low * scale, 10.0
    parts = []
    for label, value, start, end in rows:
        x = zero + value * scale
        known = [f"{each:+.{digits}f}" for each in (value, start, end) if each is not None]
        text = known[0] + (f" [{', '.join(known[1:])}]" if known[1:] else "")
        bar = ""
        if start is not None and end is not None:
            a, b = zero + start * scale, zero + end * scale
            bar = f'<path class="reach s0" d="M{a:.1f} {y + 6}H{b:.1f}" stroke-width="2"/>'
        parts.append(_label(label, y + 6))
        parts.append(
            f"<g><title>{escape(label)}: {text}</title>{bar}"
            f'<circle class="s0" cx="{x:.1f}" cy="{y + 6}" r="4"/>'
            f'<text x="{WIDTH - RIGHT + 6}" y="{y + 10}">{value:+.1f}</text></g>'
        )
        y += 20
    parts.append(f'<path class="axis" d="M{zero:.1f} 4V{y}"/>')
    parts.append(f'<text class="tick" x="{zero:.1f}" y="{y + 12}">0</text>')
    return _svg(name, title, f"{len(rows)} rows around zero", "".join(parts), y + 18)


def histogram(
    name: str,
    title: str,
    edges: Sequence[float],
    series: Sequence[tuple[str, str, Sequence[int]]],
    axis: str,
) -> Chart:
    """Draw the normalized histograms of several series, overlaid.

    Args:
        name: id, unique on the page.
        title: title of the chart.
        edges: (B + 1,) edges of the bins.
        series: name, CSS class and (B,) counts of each; a series is divided by its own sum.
        axis: label of the axis.
    """
    parts, top = _legend([(label, style) for label, style, _ in series])
    height, left, right = 130.0, 34.0, WIDTH - 10.0
    shares = [
        (label, style, np.asarray(counts) / max(sum(counts), 1)) for label, style, counts in series
    ]
    peak = max((float(share.max(initial=0.0)) for _, _, share in shares), default=0.0) or 1.0
    x = np.linspace(left, right, len(edges))
    base = top + height
    for label, style, share in shares:
        y = base - share / peak * height
        steps = "".join(f"H{a:.1f}V{b:.1f}" for a, b in zip(x[:-1], y, strict=True))
        path = f"M{left} {base}{steps}H{right}V{base}Z"
        parts.append(f'<path class="area {style}" d="{path}"><title>{escape(label)}</title></path>')
    parts += [
        f'<text class="tick {side}" x="{x[i]:.1f}" y="{base + 13}">{number(edges[i])}</text>'
        for i, side in ((0, "first"), (len(edges) // 2, ""), (-1, "last"))
    ]
    parts.append(f'<text class="tick" x="{WIDTH / 2}" y="{base + 28}">{escape(axis)}</text>')
    parts.append(f'<text class="label" x="{left - 4}" y="{top + 8}">{100 * peak:.0f} %</text>')
    parts.append(f'<path class="axis" d="M{left} {top}V{base}H{right}"/>')
    description = "; ".join(f"{label}: {sum(counts)} images" for label, _, counts in series)
    return _svg(name, title, description, "".join(parts), base + 34)


def lines(
    name: str,
    title: str,
    series: Sequence[tuple[str, str, Sequence[float], Sequence[float]]],
    axis: str,
) -> Chart:
    """Draw curves over a common axis, from zero; each point has a title with its value.

    Args:
        name: id, unique on the page.
        title: title of the chart.
        series: name, CSS class, x and y of each; x ascending, y at least 0.
        axis: label of the x axis.
    """
    parts, top = _legend([(label, style) for label, style, _, _ in series])
    height, left, right = 150.0, 34.0, WIDTH - 10.0
    farthest = max(max(x) for _, _, x, _ in series) or 1.0
    peak = max(max(y) for _, _, _, y in series) or 1.0
    base = top + height
    for label, style, xs, ys in series:
        places = [
            (left + x / farthest * (right - left), base - y / peak * height)
            for x, y in zip(xs, ys, strict=True)
        ]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path class="curve {style}" d="M{path}"/>')
        parts += [
            f'<circle class="spot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
            f"<title>{escape(label)}, {number(round(step))}: {value:.3f}</title></circle>"
            for (x, y), step, value in zip(places, xs, ys, strict=True)
        ]
    parts.append(f'<text class="tick first" x="{left}" y="{base + 13}">0</text>')
    parts.append(f'<text class="tick last" x="{right}" y="{base + 13}">{number(farthest)}</text>')
    parts.append(f'<text class="tick" x="{WIDTH / 2}" y="{base + 13}">{escape(axis)}</text>')
    parts.append(f'<text class="label" x="{left - 4}" y="{top + 8}">{number(peak)}</text>')
    parts.append(f'<text class="label" x="{left - 4}" y="{base}">0</text>')
    parts.append(f'<path class="axis" d="M{left} {top}V{base}H{right}"/>')
    ends = (f"{label}: from {y[0]:.3f} to {y[-1]:.3f}" for label, _, _, y in series)
    return _svg(name, title, "; ".join(ends), "".join(parts), base + 20)


def spans(name: str, title: str, rows: Sequence[tuple[str, float, str]]) -> Chart:
    """Draw a timeline: one bar per row, each starting at the end of the previous one.

    Args:
        name: id, unique on the page.
        title: title of the chart.
        rows: label, length, and text beside the bar.
    """
    whole = sum(length for _, length, _ in rows) or 1.0
    scale = (WIDTH - GUTTER - RIGHT) / whole
    parts, y, x = [], 6.0, float(GUTTER)
    for label, length, text in rows:
        width = max(length * scale, 1.0)
        beyond = x + width > WIDTH - 130  # no space at the right: write before the bar
        where = f'class="last" x="{x - 4:.1f}"' if beyond else f'x="{x + width + 4:.1f}"'
        parts.append(_label(label, y + 6.5))
        parts.append(
            f"<g><title>{escape(label)}: {escape(text)}</title>"
            f'<rect class="s0" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="12" rx="1.5"/>'
            f'<text {where} y="{y + 9.5:.1f}">{escape(text)}</text></g>'
        )
        x += length * scale
        y += 19
    parts.append(f'<path class="axis" d="M{GUTTER} {y - 4}V3"/>')
    return _svg(name, title, f"{len(rows)} rows, one after another", "".join(parts), y)


def _legend(series: Sequence[tuple[str, str]]) -> tuple[list[str], float]:
    """Return the legend, and the top of the chart; no legend for a single series."""
    if len(series) == 1:
        return [], _top(series)
    parts, x = [], 2.0
    for label, style in series:
        parts.append(f'<rect class="{style}" x="{x:.1f}" y="3" width="9" height="9" rx="2"/>')
        parts.append(f'<text x="{x + 13:.1f}" y="11">{escape(label)}</text>')
        x += 26 + 6.2 * len(label)
    return parts, _top(series)


def _top(series: Sequence[object]) -> float:
    return 6.0 if len(series) == 1 else 24.0


def _svg(name: str, title: str, description: str, body: str, height: float) -> Chart:
    svg = Markup(  # every label inside has been escaped
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>{body}</svg>'
    )
    return Chart(title, svg)
