"""The pictures that are judged: a file each, or four in a grid as the published script has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EllaError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Picture:
    """One of a prompt's pictures.

    Attributes:
        item_id: the prompt.
        crop: which one, from 0.
        path: its file.
        resolution: side of a cell in pixels if the file is a grid of 2 x 2; None if it is not.
    """

    item_id: str
    crop: int
    path: Path
    resolution: int | None = None

    def open(self) -> "Image.Image":
        """Return it in RGB.

        Raises:
            EllaError: It can't be read, or the grid is of another size than said.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(self.path) as file:
                image = file.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise EllaError(
                f"{self.path} can't be read as a picture: {error}. Delete it and run `generate` "
                "again, which makes what is missing."
            ) from error
        return image if self.resolution is None else self._cell(image, self.resolution)

    def _cell(self, grid: "Image.Image", side: int) -> "Image.Image":
        expected = (2 * side, 2 * side)
        if grid.size != expected:
            raise EllaError(
                f"{self.path} is {grid.width} x {grid.height} pixels. A grid of pictures of {side} "
                f"x {side} is {expected[0]} x {expected[1]}. Give the side of one picture as "
                "--resolution, or leave it out if each picture has a file of its own."
            )
        row, column = divmod(self.crop, 2)
        return grid.crop((column * side, row * side, (column + 1) * side, (row + 1) * side))


def picture_path(folder: Path, item_id: str, crop: int) -> Path:
    """Return the path of a prompt's picture."""
    return folder / f"{item_id}_{crop}.png"


def find_pictures(
    folder: Path, item_ids: Sequence[str], count: int, resolution: int | None = None
) -> list[Picture]:
    """Return the pictures of all prompts, `count` of each, in order.

    Args:
        folder: where they are: `<item_id>_<crop>.png`, or grids `<item_id>.png`.
        item_ids: the prompts.
        count: how many of each.
        resolution: side of a grid's cell in pixels; None if there are no grids.

    Raises:
        EllaError: Pictures are missing.
    """
    if resolution is not None and count > 4:
        raise EllaError(f"A grid has four pictures, and {count} of each prompt are wanted.")
    pictures = [
        Picture(
            item,
            crop,
            picture_path(folder, item, crop) if resolution is None else folder / f"{item}.png",
            resolution,
        )
        for item in item_ids
        for crop in range(count)
    ]
    missing = sorted({picture.path.name for picture in pictures if not picture.path.is_file()})
    if missing:
        raise EllaError(
            f"{folder} lacks {len(missing)} of the pictures, the first of them {missing[0]}. Run "
            "`generate` to the end, or choose a question file that has only the prompts painted."
        )
    return pictures
