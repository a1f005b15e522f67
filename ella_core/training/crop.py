"""From a picture to the pixels that the VAE reads."""

import struct
from collections.abc import Sequence

import numpy as np
import torch
from PIL import ExifTags, Image

Shape = tuple[int, int]

# EXIF orientation -> how to turn a picture that is stored so. Cameras write it.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = 5  # and all higher ones


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF data say."""
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def upright_size(image: Image.Image) -> Shape:
    """Return the (height, width) of `upright(image)` without decoding the picture."""
    size = image.height, image.width
    return size[::-1] if _orientation(image) >= _ON_ITS_SIDE else size


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, struct.error):
        return 0  # damaged EXIF data say nothing of the pixels
    return value if value in _TURNS else 0


def shapes(resolution: int, buckets: bool, step: int) -> list[Shape]:
    """List the (height, width) that pictures are brought to, in pixels.

    With `buckets` these are all shapes of at most the square's area whose edges are multiples of
    `step` and at most twice as long as wide, the largest of each height.
    """
    if not buckets:
        return [(resolution, resolution)]
    area = resolution**2
    heights = range(step, 2 * resolution + 1, step)
    found = [(height, area // height // step * step) for height in heights]
    return [(h, w) for h, w in found if w and h <= 2 * w and w <= 2 * h]


def nearest(size: Shape, choices: Sequence[Shape]) -> Shape:
    """The (height, width) whose aspect ratio is nearest to that of `size`."""
    ratio = np.log(size[0] / size[1])
    return min(choices, key=lambda s: abs(np.log(s[0] / s[1]) - ratio))


def fit(image: Image.Image, choices: Sequence[Shape]) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Scale and centre-crop a picture to the shape nearest to its own.

    Args:
        image: in RGB.
        choices: (height, width) to choose from.

    Returns:
        (3, H, W) float32 in -1 to 1, and what SDXL is told of it: original height and width, top
        and left of the crop, target height and width (arXiv 2307.01952, section 2.2).
    """
    height, width = nearest((image.height, image.width), choices)
    scale = max(height / image.height, width / image.width)
    size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    scaled = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(scaled.crop((left, top, left + width, top + height)), dtype=np.float32)
    sizes = (image.height, image.width, top, left, height, width)
    return torch.from_numpy(pixels / 127.5 - 1).movedim(-1, 0), sizes
