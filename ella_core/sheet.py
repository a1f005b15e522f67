"""Sheets of pictures: the values of their axes, and drawing them with labels.

H, W: a picture's height and width in pixels.
"""

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .errors import EllaError

Value = int | float | str
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_INTEGER = re.compile(r"[+-]?\d+")
_QUOTED = re.compile(r'"(.*)"')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
#: Pixels between pictures, behind the last ones, and around labels.
GAP = 8
_LEAST_LETTERS, _LETTERS = 12, 20  # height in pixels; letters' heights in a picture's width
_LEAST_WIDTH = 120  # pixels of a label in front of a row, before it is broken into lines


@dataclass(frozen=True)
class Axes:
    """Labels of a sheet: a column for each of `x`, a row for each of `y`."""

    x: tuple[str, ...]
    y: tuple[str, ...]


def parse_values(text: str) -> list[Value]:
    """Return a value for each line: numbers if all lines are numbers, else texts.

    They go to one input, which takes one kind. Empty lines, and lines that begin with #, are left
    out. A line in double quotes is a text without them, whatever is in it.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    numbers = [number for line in lines if (number := _number(line)) is not None]
    if len(numbers) == len(lines):
        return [*numbers]
    return [quoted[1] if (quoted := _QUOTED.fullmatch(line)) else line for line in lines]


def _number(line: str) -> int | float | None:
    if _INTEGER.fullmatch(line):
        return int(line)
    if _NUMBER.fullmatch(line) and math.isfinite(float(line)):
        return float(line)
    return None


def cross(x: Sequence[Value], y: Sequence[Value]) -> tuple[list[Value], list[Value]]:
    """Return the x and the y of every place of a sheet, row by row."""
    return [a for _ in y for a in x], [b for b in y for _ in x]


def draw_sheet(pictures: Sequence[torch.Tensor], axes: Axes, title: str) -> torch.Tensor:
    """Lay pictures out in rows and columns, with labels above and on the left.

    Args:
        pictures: of each place, row by row: (1, H, W, 3) from 0 to 1, of any sizes.
        axes: the labels.
        title: above the sheet; may be empty.

    Returns:
        (1, height, width, 3) float32 from 0 to 1. The pictures in it are the given ones, exactly.

    Raises:
        EllaError: there is not one picture for each place.
    """
    _check_number(pictures, axes)
    height = max(picture.shape[1] for picture in pictures)
    width = max(picture.shape[2] for picture in pictures)
    font = ImageFont.load_default(max(_LEAST_LETTERS, width // _LETTERS))
    above = [_Label(text, width, font) for text in axes.x]
    beside = [_Label(text, max(width, _LEAST_WIDTH), font) for text in axes.y]
    left = max(label.width for label in beside) + GAP
    lefts = [left + column * (width + GAP) for column in range(len(axes.x))]
    heading = _Label(title, lefts[-1] + width, font)
    top = heading.height + max(label.height for label in above)
    heights = [max(height, label.height) for label in beside]
    tops = [top + sum(heights[:row]) + row * GAP for row in range(len(axes.y))]
    image = Image.new("RGB", (lefts[-1] + width + GAP, tops[-1] + heights[-1] + GAP), "white")
    heading.draw(image, GAP, 0)
    for x, label in zip(lefts, above, strict=True):
        label.draw(image, x, top - label.height)
    for y, label in zip(tops, beside, strict=True):
        label.draw(image, GAP // 2, y)
    sheet = torch.from_numpy(np.array(image)).float() / 255
    for place, picture in enumerate(pictures):
        row, column = divmod(place, len(axes.x))
        _, h, w, _ = picture.shape
        sheet[tops[row] : tops[row] + h, lefts[column] : lefts[column] + w] = picture[0, ..., :3]
    return sheet[None]


def _check_number(pictures: Sequence[torch.Tensor], axes: Axes) -> None:
    runs, places = len(pictures), len(axes.x) * len(axes.y)
    if runs != places:
        raise EllaError(
            f"ELLA XY Sheet has {len(axes.x)} x {len(axes.y)} = {places} places and got pictures "
            f"of {runs} runs. Connect x and y of the same ELLA XY Values to what the pictures are "
            f"painted with."
        )
    batch = max(len(picture) for picture in pictures)
    if batch > 1:
        raise EllaError(
            f"ELLA XY Sheet takes one picture for each place and got {batch}. Set batch_size to 1."
        )


class _Label:
    """A text in lines that are not wider than a picture."""

    def __init__(self, text: str, width: int, font: Font) -> None:
        letters = max(1, int(width / font.getlength("n")))
        lines = textwrap.wrap(text, letters)
        while letters > 1 and any(font.getlength(line) > width for line in lines):
            letters -= 1
            lines = textwrap.wrap(text, letters)
        self._text, self._font = "\n".join(lines), font
        _, _, right, bottom = ImageDraw.Draw(Image.new("1", (1, 1))).textbbox(
            (0, 0), self._text, font
        )
        self.width = math.ceil(right)
        self.height = math.ceil(bottom) + GAP if text else 0

    def draw(self, image: Image.Image, left: int, top: int) -> None:
        ImageDraw.Draw(image).text((left, top + GAP // 2), self._text, "black", self._font)
