"""Caption pictures with a vision-language model, as the paper does with CogVLM (section 3.2)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..vision import ChatModel, load
from .disk import GO_ON, naming_failure
from .encoding import batched
from .pictures import Picture, PictureShard
from .stages import Sample, Work

#: What the model is told.
INSTRUCTION = (
    "Describe this picture in one paragraph. Name its main objects and what surrounds them, with "
    "their colours and textures. Say where each of them is and how they relate to each other. "
    "Write only what can be seen."
)


@dataclass(frozen=True)
class CaptionOptions:
    """Settings of captioning.

    Attributes:
        model: folder, or repository on the Hugging Face hub, of an image-text-to-text model with
            a chat template.
        revision: branch or commit there.
        instruction: what it is told.
        kind: under which the captions are stored, in place of those of this kind that a picture
            has; its others stay.
        tokens: length of a caption in the model's tokens, at most.
    """

    model: str
    revision: str = ""
    instruction: str = INSTRUCTION
    kind: str = "synthetic"
    tokens: int = 256


class Caption:
    """The stage that writes captions; see `stages.Stage`.

    A caption takes about a second, so each is kept in the shard's journal as soon as it is made.
    """

    name = "caption"

    def __init__(self, options: CaptionOptions, batch: int = 8) -> None:
        """Prepare to caption `batch` pictures at a time; the model is loaded by `load`."""
        self.settings: Mapping[str, Any] = asdict(options)
        self._options, self._batch = options, batch

    def load(self, device: torch.device) -> None:
        """See `Stage.load`.

        Raises:
            EllaError: see `vision.load` and `ChatModel`.
        """
        options = self._options
        loaded = load("AutoModelForImageTextToText", options.model, options.revision, str(device))
        self._model = ChatModel(loaded)

    def samples(self, shard: PictureShard, work: Work) -> Iterator[Sample]:
        """See `Stage.samples`."""
        captions = _read_journal(work.journal)
        work.advance(len(captions))
        left = [key for key in shard.samples if key not in captions]
        pictures = shard.read(work.problems, left, captioned=False)
        for together in batched(pictures, self._batch):
            for picture, caption in zip(together, self._write(together), strict=True):
                if isinstance(caption, str) and caption:
                    captions[picture.key] = caption
                    _append(work.journal, picture.key, caption)
                else:
                    reason = caption or "the model says nothing about it"
                    work.problems.add(f"{shard.name}/{picture.key}", reason)
            work.advance(len(together))
        for key in shard.samples:
            if key in captions:
                yield key, self._files(shard, key, captions[key])

    def _write(self, pictures: Sequence[Picture]) -> Sequence[str | Exception]:
        """Caption pictures; those that the model's processor refuses get its error."""
        images = [picture.image for picture in pictures]
        texts = [self._options.instruction] * len(images)
        try:
            captions = self._model.write(images, texts, self._options.tokens)
        except ValueError as error:  # such as a strip of 1 x 1000 pixels
            if len(pictures) == 1:
                return [error]
            return [self._write([picture])[0] for picture in pictures]
        return [" ".join(caption.split()) for caption in captions]

    def _files(self, shard: PictureShard, key: str, caption: str) -> Mapping[str, bytes]:
        """The sample's files, with a .json that holds all captions, old and new."""
        files = shard.files(key)
        files.pop("txt", None)
        content: dict[str, Any] = json.loads(files.pop("json", b"{}"))
        content["captions"] = {**shard.captions(key), self._options.kind: [caption]}
        return {**files, "json": json.dumps(content).encode()}


def _append(path: Path, key: str, caption: str) -> None:
    with naming_failure(path, GO_ON), path.open("a", encoding="utf-8") as journal:
        journal.write(json.dumps([key, caption]) + "\n")


def _read_journal(path: Path) -> dict[str, str]:
    """Key -> caption of a journal; a line that was cut short is cut off the file."""
    if not path.is_file():
        return {}
    with path.open("r+b") as file:
        content = file.read()
        end = content.rfind(b"\n") + 1
        file.truncate(end)
    return dict(json.loads(line) for line in content[:end].splitlines())
