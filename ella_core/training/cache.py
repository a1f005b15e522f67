"""Shards of cached LLM features and latents: one safetensors file each.

safetensors, because a sample is read by its place in the file without reading the others, a file
cut short is noticed when it is opened, and the contract rides in its header.

P pictures, those of one shape together; C captions; R rows of features:

    latents.512x512  (n, C, h, w)       16 bit   mean of the VAE's posterior, a tensor a shape
    std.512x512      (n, C, h, w)       16 bit   its deviation, if the VAE has one
    sizes            (P, 6)                      what SDXL is told, see `crop.fit`
    captions         (P + 1)                     picture p has captions[p] to captions[p + 1]
    kinds            (C)                         index of the kind in the metadata's list
    rows             (C + 1)                     caption c has rows[c] to rows[c + 1]
    features         (R, llm_dim)       16 bit   last hidden states
    empty            (L, llm_dim)       16 bit   the empty caption's
    context          (P, N, context)    16 bit   targets of the alignment, where there are any
    empty_context    (N, context)       16 bit   the empty caption's, where there is one
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import EllaError
from .contract import Contract
from .crop import Shape
from .disk import GO_ON, flush, naming_failure

_INDEX = ("sizes", "captions", "kinds", "rows")


@dataclass(frozen=True)
class CachedPicture:
    """A picture as training reads it, without its captions' features.

    Attributes:
        key: its name.
        latents: (C, h, w) mean of the VAE's posterior, scaled for the U-Net.
        std: its standard deviation, None where the VAE has none.
        sizes: (6,) see `crop.fit`.
        captions: number -> kind of each of its captions.
        context: (N, context_dim) target of the alignment, None without one.
    """

    key: str
    latents: torch.Tensor
    std: torch.Tensor | None
    sizes: torch.Tensor
    captions: Mapping[int, str]
    context: torch.Tensor | None


class DamagedShardError(EllaError):
    """A shard can't be read, as if it had been cut short."""


class Shard:
    """An open shard.

    Attributes:
        path: the file.
        contract: what it was made with.
        buckets: (height, width) in pixels -> number of pictures of that shape.
        keys: names of the pictures.
        skipped: names of the pictures that could not be read when it was made.
    """

    def __init__(self, path: Path) -> None:
        """Open a shard.

        Raises:
            DamagedShardError: it is damaged or cut short.
            EllaError: it is no shard, or of another version of the layout.
        """
        self.path = path
        try:
            self._file = cast(Any, safe_open(path, framework="pt"))
            metadata = self._file.metadata() or {}
            self.contract = Contract.from_json(metadata["contract"])
            self.keys: list[str] = json.loads(metadata["keys"])
            self.skipped: list[str] = json.loads(metadata["skipped"])
            self._kinds: list[str] = json.loads(metadata["kinds"])
        except (OSError, SafetensorError) as error:
            raise DamagedShardError(
                f"The shard {path} is damaged or cut short ({error})."
            ) from error
        except KeyError as error:
            raise EllaError(f"{path} is not a shard: its metadata lacks {error}.") from error
        except EllaError as error:
            raise EllaError(f"The shard {path} can't be used: {error}.") from None
        self._names = set(self._file.keys())
        self.buckets: dict[Shape, int] = {}
        for name in sorted(self._names):
            kind, _, shape = name.partition(".")
            if kind == "latents":
                height, width = map(int, shape.split("x"))
                self.buckets[height, width] = self._file.get_slice(name).get_shape()[0]
        self._index: dict[str, list[Any]] = {}

    def picture(self, shape: Shape, number: int) -> CachedPicture:
        """Read the `number`-th picture of a shape."""
        if not self._index:
            self._index = {name: self._file.get_tensor(name).tolist() for name in _INDEX}
        place = number
        for earlier, count in self.buckets.items():
            if earlier == shape:
                break
            place += count
        captions = range(*self._index["captions"][place : place + 2])
        return CachedPicture(
            key=self.keys[place],
            latents=self._row(f"latents.{_name(shape)}", number),
            std=self._row(f"std.{_name(shape)}", number) if self._has_std(shape) else None,
            sizes=torch.tensor(self._index["sizes"][place]),
            captions={c: self._kinds[self._index["kinds"][c]] for c in captions},
            context=self._row("context", place) if self.has_context else None,
        )

    def features(self, caption: int) -> torch.Tensor:
        """Read the (L, llm_dim) features of a caption by its number."""
        first, end = self._index["rows"][caption : caption + 2]
        features: torch.Tensor = self._file.get_slice("features")[first:end]
        return features

    @property
    def has_context(self) -> bool:
        """Whether each picture has a target of the alignment."""
        return "context" in self._names

    @cached_property
    def empty(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The empty caption's (L, llm_dim) features, and its (N, context_dim) target if any."""
        names = self._names
        context = self._file.get_tensor("empty_context") if "empty_context" in names else None
        return self._file.get_tensor("empty"), context

    def _has_std(self, shape: Shape) -> bool:
        return f"std.{_name(shape)}" in self._names

    def _row(self, name: str, number: int) -> torch.Tensor:
        row: torch.Tensor = self._file.get_slice(name)[number]
        return row


@dataclass(frozen=True)
class EncodedPicture:
    """A picture to be cached; see `CachedPicture`.

    Attributes:
        captions: (kind, (L, llm_dim) features) of each caption.
    """

    key: str
    shape: Shape
    latents: torch.Tensor
    std: torch.Tensor | None
    sizes: tuple[int, ...]
    captions: Sequence[tuple[str, torch.Tensor]]
    context: torch.Tensor | None


def write_shard(
    path: Path,
    contract: Contract,
    pictures: Sequence[EncodedPicture],
    empty: torch.Tensor,
    empty_context: torch.Tensor | None,
    skipped: Sequence[str],
) -> None:
    """Write a shard, whole or not at all.

    Raises:
        EllaError: the disk is full or can't be written to, or only some pictures have a target of
            the alignment.
    """
    pictures = sorted(pictures, key=lambda p: _name(p.shape))
    captions = [caption for picture in pictures for caption in picture.captions]
    kinds = sorted({kind for kind, _ in captions})
    tensors = {
        "sizes": torch.tensor([p.sizes for p in pictures]),
        "captions": _offsets([len(p.captions) for p in pictures]),
        "kinds": torch.tensor([kinds.index(kind) for kind, _ in captions]),
        "rows": _offsets([len(features) for _, features in captions]),
        "features": torch.cat([features for _, features in captions]),
        "empty": empty,
    }
    for shape in {p.shape for p in pictures}:
        alike = [p for p in pictures if p.shape == shape]
        tensors[f"latents.{_name(shape)}"] = torch.stack([p.latents for p in alike]).half()
        deviations = [p.std for p in alike if p.std is not None]
        if deviations:
            tensors[f"std.{_name(shape)}"] = torch.stack(deviations).half()
    contexts = [p.context for p in pictures if p.context is not None]
    if contexts:
        if len(contexts) < len(pictures):
            raise EllaError(f"Of the pictures of {path.stem}, {len(contexts)} have a context.npy.")
        tensors["context"] = torch.stack(contexts).half()
    if empty_context is not None:
        tensors["empty_context"] = empty_context.half()
    metadata = {
        "contract": contract.to_json(),
        "keys": json.dumps([p.key for p in pictures]),
        "kinds": json.dumps(kinds),
        "skipped": json.dumps(list(skipped)),
    }
    part = path.with_suffix(".part")
    with naming_failure(path, GO_ON):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, part, metadata)
        flush(part)
        part.replace(path)


def _name(shape: Shape) -> str:
    return f"{shape[0]}x{shape[1]}"


def _offsets(lengths: Sequence[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)
