"""A world that a tiny model can learn: coloured shapes and digits on a 3 x 3 grid.

Everything is drawn with numpy, so that the same seed gives the same pixels on every machine. One
cell of the grid is one patch of the tiny vision tower.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator

CELL = 16
"""Side of a grid cell in pixels."""
SIZE = 3 * CELL
"""Side of a picture in pixels."""

COLOURS = {
    "red": (208, 40, 40),
    "green": (40, 150, 60),
    "blue": (45, 75, 210),
    "yellow": (225, 195, 30),
    "purple": (140, 50, 170),
    "orange": (240, 125, 25),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
DIGITS = tuple("0123456789")
PLACES = (
    "northwest", "north", "northeast",
    "west", "centre", "east",
    "southwest", "south", "southeast",
)  # fmt: skip
BACKGROUNDS = ("plain", "striped", "dotted", "checked")

# 3 x 5 pixels a digit, row by row
_FONT = {
    "0": "111101101101111", "1": "010110010010111", "2": "111001111100111",
    "3": "111001111001111", "4": "101101111001001", "5": "111100111001111",
    "6": "111100111101111", "7": "111001010010010", "8": "111101111101111",
    "9": "111101111001111",
}  # fmt: skip
_SHADE = 42
"""How much darker the pattern of a background is than its ground, in grey levels."""
_NOISE = 5.0
"""Standard deviation of the pixel noise, in grey levels."""


class Thing(NamedTuple):
    """A shape or a digit in one cell."""

    cell: int
    kind: str
    colour: str


class Scene(NamedTuple):
    """What a picture shows; its things stand in reading order."""

    background: str
    things: tuple[Thing, ...]


def draw_scene(rng: Rng, *, shapes: int, digits: int = 0, distinct: bool = False) -> Scene:
    """Place shapes and digits at random; `distinct` repeats neither a shape nor a colour."""
    cells = rng.choice(len(PLACES), size=shapes + digits, replace=False)
    kinds = [SHAPES[i] for i in rng.choice(len(SHAPES), size=shapes, replace=not distinct)]
    kinds += [DIGITS[i] for i in rng.choice(len(DIGITS), size=digits)]
    hues = rng.choice(len(COLOURS), size=len(kinds), replace=not distinct)
    names = list(COLOURS)
    things = (
        Thing(int(cell), kind, names[hue])
        for cell, kind, hue in zip(cells, kinds, hues, strict=True)
    )
    return Scene(BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))], tuple(sorted(things)))


def render(scene: Scene, rng: Rng) -> NDArray[np.uint8]:
    """Paint a scene: pattern, things with a little jitter in place and size, pixel noise."""
    picture = _background(scene.background, rng)  # (48, 48, 3)
    for thing in scene.things:
        top, left = (CELL * part for part in divmod(thing.cell, 3))
        colour = np.array(COLOURS[thing.colour]) + rng.integers(-12, 13, size=3)
        picture[top : top + CELL, left : left + CELL][_mask(thing.kind, rng)] = colour
    picture += rng.normal(0.0, _NOISE, size=picture.shape)
    return picture.clip(0, 255).round().astype(np.uint8)


def _background(name: str, rng: Rng) -> NDArray[np.float64]:
    ground = rng.integers(205, 246) + rng.integers(-8, 9, size=3)
    y, x = np.mgrid[:SIZE, :SIZE] + rng.integers(0, 8)
    dark = {
        "plain": np.zeros_like(x, dtype=bool),
        "striped": y % 6 < 2,
        "dotted": (x % 6 < 2) & (y % 6 < 2),
        "checked": (x // 4 + y // 4) % 2 == 0,
    }[name]
    painted: NDArray[np.float64] = ground - _SHADE * dark[..., None].astype(np.float64)
    return painted  # (48, 48, 3)


def _mask(kind: str, rng: Rng) -> NDArray[np.bool_]:
    """Pixels of a cell that a thing covers, (16, 16)."""
    centre = (CELL - 1) / 2 + rng.uniform(-1.0, 1.0, size=2)
    y, x = np.mgrid[:CELL, :CELL] - centre[:, None, None]
    if kind in _FONT:
        return _digit(kind, x, y)
    r = rng.uniform(5.2, 6.4)
    square, taxi, radius = np.maximum(abs(x), abs(y)), abs(x) + abs(y), np.hypot(x, y)
    inside: NDArray[np.bool_] = {
        "circle": radius < r,
        "square": square < r * 0.9,
        "triangle": (y < r * 0.8) & (y + r > 1.8 * abs(x)),
        "cross": (square < r) & (np.minimum(abs(x), abs(y)) < r / 3),
        "ring": (radius < r) & (radius > r / 2),
        "diamond": taxi < r * 1.15,
    }[kind]
    return inside


def _digit(kind: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A digit of 3 x 5 blocks, each three pixels wide and two and a half high."""
    column, row = np.floor(x / 3 + 1.5).astype(int), np.floor(y / 2.5 + 2.5).astype(int)
    bitmap = np.array([bit == "1" for bit in _FONT[kind]]).reshape(5, 3)
    inside = (column >= 0) & (column < 3) & (row >= 0) & (row < 5)
    lit: NDArray[np.bool_] = inside & bitmap[row.clip(0, 4), column.clip(0, 2)]
    return lit
