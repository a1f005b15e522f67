"""The pictures to paint, and those that are painted: PNGs that say how they were made."""

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import EllaError
from ..pictures import picture_path
from ..questions import Item

if TYPE_CHECKING:
    from PIL import Image

_KEY = "ella_evaluation"  # the PNG's text that holds the metadata


class JobFailedError(Exception):
    """A picture could not be painted.

    Attributes:
        refused: the server found the graph invalid and did not begin.
    """

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass
class Job:
    """One picture to paint.

    Attributes:
        item_id, prompt: the question file's.
        crop: which of the prompt's pictures, from 0.
        seed: of this picture.
        workflow: hash of the workflow or name of the pipeline.
        path: where the picture belongs.
        errors: what servers reported, as (address, message).
    """

    item_id: str
    prompt: str
    crop: int
    seed: int
    workflow: str
    path: Path
    errors: list[tuple[str, str]] = field(default_factory=list)

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata for its PNG."""
        return {
            "item_id": self.item_id,
            "prompt": self.prompt,
            "crop": self.crop,
            "seed": self.seed,
            "workflow": self.workflow,
        }

    def failed_on(self, server: str) -> bool:
        """Return whether that server has reported an error for it."""
        return any(server == address for address, _ in self.errors)


def plan(
    items: Sequence[Item], folder: Path, workflow: str, pictures: int, first_seed: int
) -> list[Job]:
    """Return a job per picture, prompt by prompt.

    The k-th picture of every prompt has the seed `first_seed + k`, so that two runs differ in the
    workflow alone.

    Args:
        items: the prompts.
        folder: where the pictures belong.
        workflow: hash of the workflow or name of the pipeline.
        pictures: how many per prompt.
        first_seed: of each prompt's first picture.
    """
    return [
        Job(
            item.item_id,
            item.prompt,
            crop,
            first_seed + crop,
            workflow,
            picture_path(folder, item.item_id, crop),
        )
        for item in items
        for crop in range(pictures)
    ]


def missing(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs whose picture isn't there.

    Raises:
        EllaError: A picture there was made otherwise: of another prompt, seed or workflow.
    """
    for job in jobs:
        if job.path.exists():
            _check(job, read_metadata(job.path))
    return [job for job in jobs if not job.path.exists()]


def read_metadata(path: Path) -> dict[str, Any]:
    """Return what a PNG says of how it was painted; nothing if it isn't one of ours.

    Raises:
        EllaError: It can't be read as a picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            found: dict[str, Any] = json.loads(image.info.get(_KEY, "{}"))
            return found
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise EllaError(f"{path} can't be read as a picture: {error}. Delete it.") from error


def decode(content: bytes) -> "Image.Image":
    """Return a file's content as a picture.

    Raises:
        JobFailedError: It is none, or cut off.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (UnidentifiedImageError, OSError) as error:
        raise JobFailedError(f"what came is no picture: {error}") from error
    return image


def save(job: Job, image: "Image.Image", painter: dict[str, str]) -> None:
    """Write a picture with its metadata, whole or not at all.

    Texts that the picture has are kept: ComfyUI's hold the graph.

    Args:
        job: what was painted.
        image: the picture.
        painter: who painted it, such as the version of ComfyUI.
    """
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for key, text in image.info.items():
        if isinstance(key, str) and isinstance(text, str):
            texts.add_text(key, text)
    texts.add_text(_KEY, json.dumps({**job.metadata, **painter}))
    job.path.parent.mkdir(parents=True, exist_ok=True)
    part = job.path.with_suffix(".part")
    image.save(part, format="PNG", pnginfo=texts)
    os.replace(part, job.path)


def _check(job: Job, found: dict[str, Any]) -> None:
    for key, wanted in job.metadata.items():
        if found.get(key) != wanted:
            raise EllaError(
                f"{job.path} was painted with another {key}: {found.get(key)!r}, and {wanted!r} is "
                "wanted. Choose another folder, or delete the pictures there."
            )
