"""A picture of prompts beside what was painted of them."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIDE, _TEXT, _MARGIN = 144, 256, 16


def save_sheet(path: Path, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> None:
    """Write a sheet with two prompts a row."""
    width, height = _SIDE + _TEXT + 2 * _MARGIN, _SIDE + _MARGIN
    rows = (len(texts) + 1) // 2
    sheet = Image.new("RGB", (2 * width + _MARGIN, rows * height + _MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for i, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        x, y = _MARGIN + i % 2 * width, _MARGIN + i // 2 * height
        image = Image.fromarray((picture * 255).round().astype(np.uint8))
        sheet.paste(image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (x, y))
        draw.rectangle([x - 1, y - 1, x + _SIDE, y + _SIDE], outline="#bbbbbb")
        lines = "\n".join(textwrap.wrap(text, 32))
        draw.text((x + _SIDE + _MARGIN, y), lines, fill="#222222", font=font, spacing=5)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
