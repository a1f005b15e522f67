"""Scenes of coloured shapes on a 3 x 3 grid, and how they are drawn.

Shapes: P pixels of a picture's side, C of a place's.
"""

import random
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

PIXELS = 96
CELL = PIXELS // 3
#: Things stand at most this far from the middle of their place, in pixels.
JITTER = 2

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (222, 36, 44),
    "orange": (248, 138, 20),
    "yellow": (250, 218, 40),
    "green": (36, 160, 64),
    "cyan": (64, 208, 226),
    "blue": (40, 72, 216),
    "purple": (132, 48, 176),
    "pink": (248, 140, 196),
}
BACKGROUNDS = {"white": (250, 250, 250), "grey": (148, 148, 148), "black": (24, 24, 24)}
SIZES = {"small": 17, "large": 27}  # pixels across
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
PLACES = tuple(product(ROWS, COLUMNS))
#: Where things go whose place nobody says, by their number.
USUAL_PLACES = {1: (4,), 2: (3, 5), 3: (3, 4, 5), 4: (0, 2, 6, 8)}

#: Never in training: one colour a shape.
HELD_OUT_PAIRS = tuple(
    zip(SHAPES, ("green", "pink", "blue", "red", "yellow", "purple"), strict=True)
)
TRAINED_PAIRS = tuple(pair for pair in product(SHAPES, COLOURS) if pair not in HELD_OUT_PAIRS)
_LAYOUTS = [layout for layout in combinations(range(9), 4) if layout != USUAL_PLACES[4]]
#: Places of four things that are never in training: a fifth of all.
HELD_OUT_LAYOUTS = tuple(random.Random(4).sample(_LAYOUTS, len(_LAYOUTS) // 5))


@dataclass(frozen=True)
class Thing:
    """A coloured shape; `place` indexes `PLACES`."""

    shape: str
    colour: str
    size: str
    place: int


@dataclass(frozen=True)
class Scene:
    """A background, and things ordered by place, no two in one place."""

    background: str
    things: tuple[Thing, ...]


def draw_scene(seed: int, kind: str = "train", least: int = 1) -> Scene:
    """Return the scene of a seed; kinds share no seeds.

    Args:
        seed: any number.
        kind: "train"; any other kind uses the held-out layouts for scenes of four things, and
            "pairs" gives every thing a held-out pair of shape and colour.
        least: of one to four things, draw at least so many.
    """
    rng = random.Random(f"{kind} {seed}")
    count = rng.randint(least, 4)
    places = _draw_places(rng, count, kind == "train")
    pairs = HELD_OUT_PAIRS if kind == "pairs" else TRAINED_PAIRS
    things = (Thing(*rng.choice(pairs), rng.choice(tuple(SIZES)), place) for place in places)
    return Scene(rng.choice(tuple(BACKGROUNDS)), tuple(things))


def draw_crowded_scene(seed: int) -> Scene:
    """Return a scene with five to nine things: many shapes to learn from in one picture."""
    rng = random.Random(f"crowded {seed}")
    places = sorted(rng.sample(range(9), rng.randint(5, 9)))
    things = (Thing(*rng.choice(TRAINED_PAIRS), rng.choice(tuple(SIZES)), p) for p in places)
    return Scene(rng.choice(tuple(BACKGROUNDS)), tuple(things))


def _draw_places(rng: random.Random, count: int, train: bool) -> tuple[int, ...]:
    if count == 4 and not train:
        return rng.choice(HELD_OUT_LAYOUTS)
    if rng.random() < 0.2:
        return USUAL_PLACES[count]
    while True:
        places = tuple(sorted(rng.sample(range(9), count)))
        if places not in HELD_OUT_LAYOUTS:
            return places


def paint(scene: Scene, seed: int) -> np.ndarray:
    """Return (P, P, 3) float32 in 0 to 1; the seed moves things a little within their places."""
    rng = random.Random(seed)
    picture_PP3 = np.empty((PIXELS, PIXELS, 3), np.float32)
    picture_PP3[:] = rgb(BACKGROUNDS[scene.background])
    for thing in scene.things:
        shift = rng.randint(-JITTER, JITTER), rng.randint(-JITTER, JITTER)
        alpha_CC1 = mask(thing.shape, thing.size, *shift)[..., None]
        row, column = divmod(thing.place, 3)
        cell_CC3 = picture_PP3[row * CELL :, column * CELL :][:CELL, :CELL]
        cell_CC3 += alpha_CC1 * (rgb(COLOURS[thing.colour]) - cell_CC3)
    return picture_PP3


def rgb(colour: tuple[int, int, int]) -> np.ndarray:
    """Return (3,) float32 in 0 to 1."""
    return np.asarray(colour, np.float32) / 255


@cache
def mask(shape: str, size: str, down: int = 0, right: int = 0, finer: int = 8) -> np.ndarray:
    """Return (C, C) float32: how much of each pixel of a place the shape covers.

    Args:
        shape: one of `SHAPES`.
        size: one of `SIZES`.
        down: pixels below the middle.
        right: pixels right of the middle.
        finer: the shape is drawn at this multiple of the size, for smooth edges.
    """
    image = Image.new("L", (CELL * finer, CELL * finer))
    radius = SIZES[size] / 2 * finer
    middle = ((CELL / 2 + right) * finer, (CELL / 2 + down) * finer)

    def at(x: float, y: float) -> tuple[float, float]:
        return middle[0] + x * radius, middle[1] + y * radius

    draw = ImageDraw.Draw(image)
    if shape in ("circle", "ring"):
        draw.ellipse([at(-1, -1), at(1, 1)], fill=255)
        if shape == "ring":
            draw.ellipse([at(-0.55, -0.55), at(0.55, 0.55)], fill=0)
    elif shape == "cross":
        draw.rectangle([at(-1, -0.33), at(1, 0.33)], fill=255)
        draw.rectangle([at(-0.33, -1), at(0.33, 1)], fill=255)
    else:
        draw.polygon([at(x, y) for x, y in _corners(shape)], fill=255)
    return np.asarray(image.resize((CELL, CELL), Image.Resampling.BOX), np.float32) / 255


def _corners(shape: str) -> list[tuple[float, float]]:
    if shape == "square":
        return [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]
    if shape == "triangle":
        return [(0, -1), (1, 0.85), (-1, 0.85)]
    points = []
    for i in range(10):
        radius = 1.1 if i % 2 == 0 else 0.46
        points.append((radius * sin(i * pi / 5), 0.06 - radius * cos(i * pi / 5)))
    return points
