"""Charts over an axis as inline SVG: histograms, curves, and values by budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
from markupsafe import escape

from presel_lightning.eval.report.charts import WIDTH, Chart, drawing, legend
from presel_lightning.eval.report.layout import (
    LINE,
    fitted,
    number,
    range_labels,
    text_width,
    tick_labels,
    ticks,
)

HEIGHT = 150.0
RIGHT = WIDTH - 10.0


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
    parts, top = legend([(label, style) for label, style, _ in series])
    shares = [
        (label, style, 100 * np.asarray(counts) / max(sum(counts), 1))
        for label, style, counts in series
    ]
    peak = max(float(share.max(initial=0.0)) for _, _, share in shares)
    base = top + HEIGHT
    grid, left, place = _grid(0.0, peak, top, base, " %")
    x = np.linspace(left, RIGHT, len(edges))
    for label, style, share in shares:
        steps = "".join(f"H{a:.1f}V{place(v):.1f}" for a, v in zip(x[:-1], share, strict=True))
        path = f"M{left:.1f} {base}{steps}H{RIGHT}V{base}Z"
        parts.append(f'<path class="area {style}" d="{path}"><title>{escape(label)}</title></path>')
    marked = {0: " first", len(edges) // 2: "", len(edges) - 1: " last"}
    texts = range_labels([edges[i] for i in marked])
    parts += [
        f'<text class="tick{side}" x="{x[i]:.1f}" y="{base + 13}">{text}</text>'
        for (i, side), text in zip(marked.items(), texts, strict=True)
    ]
    parts.append(_axis_label(axis, base + 13 + LINE))
    description = "; ".join(f"{label}: {sum(counts)} images" for label, _, counts in series)
    return drawing(name, title, description, [*grid, *parts], base + 18 + LINE)


def curves(
    name: str,
    title: str,
    series: Sequence[tuple[str, str, Sequence[float], Sequence[float], Sequence[float]]],
    axis: str,
) -> Chart:
    """Draw curves over 0-100 %, from zero: values thin behind, smoothed ones on top.

    Each smoothed point has a title with its value.

    Args:
        name: id, unique on the page.
        title: title of the chart.
        series: name, CSS class, x in percent, values and smoothed values of each; x ascending,
            values at least 0.
        axis: label of the x axis.
    """
    parts, top = legend([(label, style) for label, style, *_ in series])
    base = top + HEIGHT
    peak = max(max(values) for _, _, _, values, _ in series)
    grid, left, place = _grid(0.0, peak, top, base)
    scale = (RIGHT - left) / 100
    for weight in ("raw", "smooth"):
        for label, style, xs, values, smooth in series:
            ys = values if weight == "raw" else smooth
            places = [(left + x * scale, place(y)) for x, y in zip(xs, ys, strict=True)]
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            parts.append(f'<path class="curve {weight} {style}" d="M{path}"/>')
            if weight == "smooth":
                spot = "spot" if len(places) > 1 else "dot"  # a curve of one point is seen, too
                parts += [
                    f'<circle class="{spot} {style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
                    f"<title>{escape(label)}, {number(round(share))} %: {value:.3f}</title></circle>"
                    for (x, y), share, value in zip(places, xs, smooth, strict=True)
                ]
    for share, side in ((0, " first"), (25, ""), (50, ""), (75, ""), (100, " last")):
        x = left + share * scale
        parts.append(f'<text class="tick{side}" x="{x:.1f}" y="{base + 13}">{share} %</text>')
    parts.append(_axis_label(axis, base + 13 + LINE))
    ends = (f"{label}: from {ys[0]:.3f} to {ys[-1]:.3f}" for label, _, _, _, ys in series)
    return drawing(name, title, "; ".join(ends), [*grid, *parts], base + 18 + LINE)


def dots(
    name: str,
    title: str,
    places: Sequence[str],
    series: Sequence[tuple[str, str, Sequence[Sequence[tuple[str, float]]]]],
    axis: str,
) -> Chart:
    """Draw values at the places of an axis: a dot each, and a line through their means.

    Args:
        name: id, unique on the page.
        title: title of the chart.
        places: labels of the axis, evenly spaced.
        series: name, CSS class, and the values of each place, each with a label.
        axis: label of the axis.
    """
    parts, top = legend([(label, style) for label, style, _ in series])
    base = top + HEIGHT
    every = [value for _, _, groups in series for group in groups for _, value in group]
    grid, left, y_of = _grid(min(every), max(every), top, base)
    slot = (RIGHT - left) / len(places)
    apart = min(12.0, 0.8 * slot / len(series))
    for order, (label, style, groups) in enumerate(series):
        found = [
            (left + (i + 0.5) * slot + _beside(series, i, order) * apart, at, group)
            for i, (at, group) in enumerate(zip(places, groups, strict=True))
            if group
        ]
        means = [(x, y_of(fmean(value for _, value in group))) for x, _, group in found]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in means)
        parts.append(f'<path class="curve {style}" d="M{line}"/>')
        parts += [f'<path class="curve {style}" d="M{x - 5:.1f} {y:.1f}h10"/>' for x, y in means]
        parts += [
            f'<circle class="dot {style}" cx="{x:.1f}" cy="{y_of(value):.1f}" r="3.5"><title>'
            f"{escape(label)}, {escape(at)}, {escape(which)}: {number(value)}</title></circle>"
            for x, at, group in found
            for which, value in group
        ]
    widest = max(map(text_width, places))
    lines = 1 if widest <= slot else 1 + int(1.5 * widest // slot)  # the labels take turns
    for i, at in enumerate(places):
        half = text_width(at) / 2
        x = min(max(left + (i + 0.5) * slot, half), WIDTH - half)
        y = base + 18 + LINE * (i % lines)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y}">{escape(at)}</text>')
    parts.append(_axis_label(axis, base + 18 + LINE * lines))
    description = f"{len(series)} series at {len(places)} places: " + ", ".join(places)
    return drawing(name, title, description, [*grid, *parts], base + 23 + LINE * lines)


def _beside(
    series: Sequence[tuple[str, str, Sequence[Sequence[object]]]], at: int, order: int
) -> float:
    """Return where a series stands at a place: those with values there stand side by side."""
    there = [i for i, (*_, groups) in enumerate(series) if groups[at]]
    return there.index(order) - (len(there) - 1) / 2


def _grid(
    low: float, high: float, top: float, base: float, unit: str = ""
) -> tuple[list[str], float, Callable[[float], float]]:
    """Draw the y axis; return its parts, its place, and the place of a value on it."""
    marks = ticks(low, high)
    texts = [f"{text}{unit}" for text in tick_labels(marks)]
    left = max(map(text_width, texts)) + 8

    def place(value: float) -> float:
        return base - (value - marks[0]) / (marks[-1] - marks[0]) * (base - top)

    parts = []
    for mark, text in zip(marks, texts, strict=True):
        y = place(mark)
        parts.append(f'<path class="axis" d="M{left:.1f} {y:.1f}H{RIGHT}"/>')
        parts.append(f'<text class="label soft" x="{left - 6:.1f}" y="{y + 4:.1f}">{text}</text>')
    return parts, left, place


def _axis_label(text: str, y: float) -> str:
    return f'<text class="tick" x="{WIDTH / 2}" y="{y}">{escape(fitted(text, WIDTH - 8))}</text>'
