"""Pictures with captions: a folder, or tar shards in webdataset's layout.

A sample is a picture and files of the same name:

    castle.jpg
    castle.txt          one caption, or
    castle.json         {"captions": {"long": ["...", "..."], "short": ["..."]}}
    castle.context.npy  optional: the context to align a connector to, (N, context_dim)

A .json without captions, such as img2dataset writes beside each picture, leaves them to the .txt.

Tars are read by the place of each member: training has to jump to any sample, which webdataset's
own streaming reader can't.
"""

import hashlib
import io
import json
import logging
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ..errors import EllaError
from .crop import upright, upright_size

T = TypeVar("T")

_LOG = logging.getLogger("ella")
_PICTURES = ("jpg", "jpeg", "png", "webp")
# Key and extension; hidden files have none.
_NAME = re.compile(
    rf"((?:.*/)?[^./][^/]*)\.({'|'.join(_PICTURES)}|txt|json|context\.npy)", re.IGNORECASE
)

_JSON = 'its .json is not of the form {"captions": {"kind": ["...", "..."]}}'

# What decoders raise. Pillow takes a picture of more than 179 million pixels for an attack.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Picture:
    """A decoded sample.

    Attributes:
        key: its name.
        image: in RGB.
        captions: kind -> captions of that kind; empty if they were not asked for and are not there.
        context: (N, context_dim) target of the alignment, None without one.
    """

    key: str
    image: Image.Image
    captions: Mapping[str, list[str]]
    context: np.ndarray[Any, Any] | None = None

    @property
    def all_captions(self) -> list[tuple[str, str]]:
        """(kind, text) of each caption."""
        return [(kind, text) for kind, texts in self.captions.items() for text in texts]


@dataclass
class Problems:
    """Names of skipped pictures and shards."""

    skipped: list[str] = field(default_factory=list)

    def add(self, name: str, reason: object) -> None:
        """Note and log that `name` is left out."""
        self.skipped.append(name)
        _LOG.warning("Skipped %s: %s", name, reason)


@dataclass(frozen=True)
class PictureShard:
    """Some samples that are read together: one tar, or a stretch of a folder.

    Attributes:
        name: of the shard, the same whenever the folder is listed.
        samples: key -> extension -> where the file is.
    """

    name: str
    samples: Mapping[str, Mapping[str, "_Place"]]

    def read(
        self, problems: Problems, keys: Iterable[str] | None = None, captioned: bool = True
    ) -> Iterator[Picture]:
        """Decode samples one by one; the unreadable ones go to `problems`.

        Args:
            problems: gets those that `decode` raises for.
            keys: which samples; None for all.
            captioned: whether a picture without a caption is unreadable.
        """
        for key in self.samples if keys is None else keys:
            picture = self._attempt(partial(self.decode, captioned=captioned), key, problems)
            if picture:
                yield picture

    def sizes(self, problems: Problems) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield key and (height, width) of each picture, read off the headers."""
        for key in self.samples:
            size = self._attempt(self._size, key, problems)
            if size:
                yield key, size

    def all_captions(self, problems: Problems) -> Iterator[str]:
        """Yield all captions, without looking at the pictures."""
        for key in self.samples:
            captions = self._attempt(self.captions, key, problems) or {}
            yield from chain.from_iterable(captions.values())

    @property
    def identity(self) -> str:
        """Hash of the names of all samples."""
        return hashlib.sha256("\n".join(self.samples).encode()).hexdigest()[:16]

    def _attempt(self, read: Callable[[str], T], key: str, problems: Problems) -> T | None:
        try:
            return read(key)
        except EllaError as error:
            problems.add(f"{self.name}/{key}", error)
            return None

    def _size(self, key: str) -> tuple[int, int]:
        with _naming_damage():
            image = Image.open(io.BytesIO(_picture_file(self.samples[key]).read()))
            return upright_size(image)

    def files(self, key: str) -> dict[str, bytes]:
        """Extension -> content of a sample's files, as they are."""
        return {extension: place.read() for extension, place in self.samples[key].items()}

    def captions(self, key: str) -> dict[str, list[str]]:
        """Kind -> captions of a sample, empty without any.

        Raises:
            EllaError: they are damaged.
        """
        with _naming_damage():
            return _captions(self.samples[key])

    def decode(self, key: str, captioned: bool = True) -> Picture:
        """Read one sample.

        Raises:
            EllaError: its picture, captions or context are damaged, or it has no caption although
                it should be `captioned`.
        """
        files = self.samples[key]
        with _naming_damage():
            stored = Image.open(io.BytesIO(_picture_file(files).read()))
            image = upright(stored).convert("RGB")
            context = files["context.npy"].read() if "context.npy" in files else None
            captions = _captions(files)
            if captioned and not captions:
                raise EllaError("it has no caption")
            return Picture(
                key,
                image,
                captions,
                None if context is None else np.load(io.BytesIO(context), allow_pickle=False),
            )


@dataclass(frozen=True)
class _Place:
    """Bytes of a file: all of it, or a member of a tar."""

    path: Path
    start: int = 0
    size: int = -1

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


def picture_shards(folder: Path, size: int, problems: Problems) -> list[PictureShard]:
    """List what a folder holds: its tars if there are any, else its pictures.

    Args:
        folder: with `.tar` files, or with pictures (also in folders inside it).
        size: pictures in a shard, where they don't come in tars.
        problems: gets the tars that are cut short, whose whole samples are still used.

    Raises:
        EllaError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise EllaError(
            f"There is no folder {folder}. Set pictures of the source to where they are."
        )
    tars = sorted(folder.glob("*.tar"))
    if tars:
        shards = [PictureShard(tar.stem, _tar_samples(tar, problems)) for tar in tars]
    else:
        files = {p.relative_to(folder).as_posix(): _Place(p) for p in sorted(folder.rglob("*.*"))}
        samples = _by_key(files)
        keys = list(samples)
        shards = [
            PictureShard(f"{n:06d}", {key: samples[key] for key in keys[i : i + size]})
            for n, i in enumerate(range(0, len(keys), size))
        ]
    if not any(shard.samples for shard in shards):
        raise EllaError(
            f"{folder} holds no pictures: expected .tar shards or files such as 0001.jpg with "
            f"0001.txt or 0001.json beside them."
        )
    return shards


def _tar_samples(path: Path, problems: Problems) -> dict[str, dict[str, _Place]]:
    length = path.stat().st_size
    members = {}
    try:
        with tarfile.open(path, "r:") as tar:  # the places in a compressed one would be others
            for member in tar:
                end = member.offset_data + member.size
                if member.isfile() and end <= length:
                    members[member.name] = _Place(path, member.offset_data, member.size)
                elif end > length:
                    raise tarfile.ReadError("it ends in the middle of a file")
            if tar.offset >= length:
                raise tarfile.ReadError("its end is missing")
    except tarfile.TarError as error:
        problems.add(path.name, f"{error}; its {len(members)} whole files are used")
    return _by_key(members)


def _by_key(files: Mapping[str, _Place]) -> dict[str, dict[str, _Place]]:
    """Group by name. Unlike webdataset's own rule, this one lets names have dots."""
    samples: dict[str, dict[str, _Place]] = {}
    for name, place in files.items():
        found = _NAME.fullmatch(name)
        if found:
            samples.setdefault(found[1], {})[found[2].lower()] = place
    return {k: s for k, s in samples.items() if any(e in s for e in _PICTURES)}


@contextmanager
def _naming_damage() -> Iterator[None]:
    """Turn whatever a decoder stumbles over into an `EllaError`."""
    try:
        yield
    except EllaError:
        raise
    except _DAMAGE as error:
        raise EllaError(f"it is damaged or incomplete ({error})") from error


def _picture_file(files: Mapping[str, _Place]) -> _Place:
    return next(files[extension] for extension in _PICTURES if extension in files)


def _captions(files: Mapping[str, _Place]) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    if "json" in files:
        content = json.loads(files["json"].read())
        found = content.get("captions", {}) if isinstance(content, dict) else None
        if not isinstance(found, dict):
            raise EllaError(_JSON)
        captions = {kind: v if isinstance(v, list) else [v] for kind, v in found.items()}
        if not all(isinstance(text, str) for texts in captions.values() for text in texts):
            raise EllaError(_JSON)
    if not any(captions.values()) and "txt" in files:
        captions = {"caption": [files["txt"].read().decode("utf-8").strip()]}
    return captions if any(captions.values()) else {}
