"""Reads a picture of the world by a rule: each place's nearest drawing in squared error.

Shapes: P pixels of a picture's side, C of a place's, M masks, K colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import product
from statistics import mean

import numpy as np

from .world import BACKGROUNDS, CELL, COLOURS, SHAPES, SIZES, Scene, Thing, mask, rgb

#: The least share of a thing's contrast that its drawing has to explain.
CLEAR = 0.6
#: Mean squared contrast below which a place is empty. A small cross in the faintest colour on the
#: nearest background has about ten times that.
EMPTY = 0.0008
_SHIFTS = range(-4, 5)


@dataclass(frozen=True)
class Verdict:
    """Verdict on the picture of a scene, each field from 0 to 1.

    Attributes:
        objects_right: things whose place holds their shape, colour and size.
        shape: things whose place holds their shape; `colour` and `size` likewise.
        place: things whose place holds anything.
        background: whether the background is right.
        nothing_else: whether all other places are empty.
    """

    objects_right: float
    shape: float
    colour: float
    size: float
    place: float
    background: float
    nothing_else: float


def judge(picture_PP3: np.ndarray, scene: Scene) -> Verdict:
    """Compare a picture, float in 0 to 1, with the scene that it should show."""
    seen = read(picture_PP3)
    found = {thing.place: thing for thing in seen.things}
    pairs = [(thing, found.get(thing.place)) for thing in scene.things]

    def share(right: list[bool]) -> float:
        return sum(right) / len(right)

    others = set(found) - {thing.place for thing in scene.things}
    return Verdict(
        objects_right=share([a == b for a, b in pairs]),
        shape=share([b is not None and a.shape == b.shape for a, b in pairs]),
        colour=share([b is not None and a.colour == b.colour for a, b in pairs]),
        size=share([b is not None and a.size == b.size for a, b in pairs]),
        place=share([b is not None for _, b in pairs]),
        background=float(seen.background == scene.background),
        nothing_else=float(not others),
    )


def mean_verdict(pictures: Sequence[np.ndarray], scenes: Sequence[Scene]) -> dict[str, float]:
    """Return the mean of each field of the verdicts on pictures of scenes."""
    verdicts = [judge(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]
    return {f.name: mean(getattr(verdict, f.name) for verdict in verdicts) for f in fields(Verdict)}


def read(picture_PP3: np.ndarray) -> Scene:
    """Return the scene that a picture shows; "unclear" is the shape of what nothing resembles."""
    background = _read_background(picture_PP3)
    things = []
    for place in range(9):
        row, column = divmod(place, 3)
        cell_CC3 = picture_PP3[row * CELL :, column * CELL :][:CELL, :CELL]
        thing = _read_place(cell_CC3, background, place)
        if thing:
            things.append(thing)
    return Scene(background, tuple(things))


def _read_background(picture_PP3: np.ndarray) -> str:
    """Nearest to the median along the borders of the places, where nothing is drawn."""
    edge = np.arange(0, picture_PP3.shape[0], CELL)
    middle_3 = np.median(picture_PP3[edge].reshape(-1, 3), axis=0)
    distance = {name: np.abs(rgb(c) - middle_3).sum() for name, c in BACKGROUNDS.items()}
    return min(distance, key=distance.__getitem__)


def _read_place(cell_CC3: np.ndarray, background: str, place: int) -> Thing | None:
    ground_3 = rgb(BACKGROUNDS[background])
    contrast_CC3 = cell_CC3 - ground_3
    total = float((contrast_CC3**2).sum())
    if total < EMPTY * contrast_CC3.size:
        return None
    kinds, masks_MC = _masks()
    colours_K3 = np.stack([rgb(c) for c in COLOURS.values()]) - ground_3
    overlap_MK = masks_MC @ contrast_CC3.reshape(-1, 3) @ colours_K3.T
    area_M = (masks_MC**2).sum(axis=1)
    gain_MK = 2 * overlap_MK - np.outer(area_M, (colours_K3**2).sum(axis=1))
    m, k = np.unravel_index(gain_MK.argmax(), gain_MK.shape)
    shape, size = kinds[m]
    clear = gain_MK[m, k] >= CLEAR * total
    return Thing(shape if clear else "unclear", tuple(COLOURS)[k], size, place)


@cache
def _masks() -> tuple[list[tuple[str, str]], np.ndarray]:
    kinds, masks = [], []
    for shape, size, down, right in product(SHAPES, SIZES, _SHIFTS, _SHIFTS):
        kinds.append((shape, size))
        masks.append(mask(shape, size, down, right).ravel())
    return kinds, np.stack(masks)
