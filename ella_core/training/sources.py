"""Sources of training pictures: shards of a cache, or pictures that are encoded while training."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch

from ..errors import EllaError
from .cache import Shard
from .config import DataConfig, SourceConfig
from .contract import Contract
from .crop import Shape, fit, nearest, shapes
from .pictures import PictureShard, Problems, picture_shards

_LOG = logging.getLogger("ella")

_STRETCH = 1000  # pictures of a folder that are shuffled like a shard


@dataclass(frozen=True)
class Item:
    """A picture with the caption that was chosen; either pixels and text, or what became of them.

    Attributes:
        key: shard and name, for messages.
        sizes: (6,) see `crop.fit`.
        latents: (C, h, w) mean of the posterior, None if `pixels` are given.
        std: (C, h, w) its deviation, None without one.
        features: (L, llm_dim), None if `caption` is given.
        context: (N, context_dim) target of the alignment, None without one.
        pixels: (3, H, W) in -1 to 1.
        caption: text.
    """

    key: str
    sizes: torch.Tensor
    latents: torch.Tensor | None = None
    std: torch.Tensor | None = None
    features: torch.Tensor | None = None
    context: torch.Tensor | None = None
    pixels: torch.Tensor | None = None
    caption: str | None = None


class Choice(Protocol):
    """Chooses one of the captions (number -> kind); None stands for the empty caption."""

    def __call__(self, captions: Mapping[int, str]) -> int | None: ...


class Source(Protocol):
    """Pictures in shards.

    Attributes:
        buckets: shape -> number of pictures of that shape in each shard.
        has_context: whether all pictures have a target of the alignment.
        has_empty_context: whether the empty caption has one.
    """

    buckets: Mapping[Shape, Sequence[int]]
    has_context: bool
    has_empty_context: bool

    @property
    def contract(self) -> Contract | None:
        """Settings that a cache was made with, None for pictures."""

    def read(self, shard: int, shape: Shape, number: int, choose: Choice) -> Item:
        """Read a picture of a shape in a shard, and the caption that `choose` chooses."""


class CacheSource:
    """Precomputed shards."""

    def __init__(self, folder: Path) -> None:
        """Open a folder of shards; the damaged ones are logged and left out.

        Raises:
            EllaError: there is none, or two were made with different contracts.
        """
        self._paths: list[Path] = []
        self._open = lru_cache(maxsize=64)(Shard)
        shards = list(filter(None, map(self._try, sorted(folder.glob("*.safetensors")))))
        if not shards:
            raise EllaError(f"{folder} holds no shards. Make them with: ella-train precompute.")
        self.contract = shards[0].contract
        for shard in shards:
            self.contract.check(shard.contract, str(shard.path))
        self.has_context = all(shard.has_context for shard in shards)
        self.has_empty_context = all(shard.empty[1] is not None for shard in shards)
        self.buckets: Mapping[Shape, Sequence[int]] = {
            shape: [shard.buckets.get(shape, 0) for shard in shards]
            for shape in {shape for shard in shards for shape in shard.buckets}
        }

    def _try(self, path: Path) -> Shard | None:
        try:
            shard = Shard(path)
        except EllaError as error:
            _LOG.warning("Left out: %s", error)
            return None
        self._paths.append(path)
        return shard

    def read(self, shard: int, shape: Shape, number: int, choose: Choice) -> Item:
        """See `Source.read`."""
        opened = self._open(self._paths[shard])
        picture = opened.picture(shape, number)
        caption = choose(picture.captions)
        empty, empty_context = opened.empty
        return Item(
            f"{opened.path.stem}/{picture.key}",
            picture.sizes,
            picture.latents.float(),
            None if picture.std is None else picture.std.float(),
            empty if caption is None else opened.features(caption),
            empty_context if caption is None else picture.context,
        )


class PictureSource:
    """Pictures and captions as they are, encoded while training."""

    contract: Contract | None = None
    has_context = has_empty_context = False

    def __init__(self, folder: Path, data: DataConfig) -> None:
        """List the pictures; with buckets, look up the shape of each.

        Raises:
            EllaError: see `picture_shards`.
        """
        self._problems = Problems()
        self._choices = shapes(data.resolution, data.buckets, data.bucket_step)
        self._shards = picture_shards(folder, _STRETCH, self._problems)
        self._keys = [self._by_shape(shard) for shard in self._shards]
        self.buckets: Mapping[Shape, Sequence[int]] = {
            shape: [len(keys.get(shape, ())) for keys in self._keys]
            for shape in {shape for keys in self._keys for shape in keys}
        }

    def _by_shape(self, shard: PictureShard) -> dict[Shape, list[str]]:
        if len(self._choices) == 1:
            return {self._choices[0]: list(shard.samples)}
        keys: dict[Shape, list[str]] = {}
        for key, size in shard.sizes(self._problems):
            keys.setdefault(nearest(size, self._choices), []).append(key)
        return keys

    def read(self, shard: int, shape: Shape, number: int, choose: Choice) -> Item:
        """See `Source.read`. A damaged picture is logged, and the next one takes its place."""
        keys = self._keys[shard][shape]
        for key in keys[number:] + keys[:number]:
            name = f"{self._shards[shard].name}/{key}"
            try:
                picture = self._shards[shard].decode(key)
            except EllaError as error:
                self._problems.add(name, error)
                continue
            captions = picture.all_captions
            chosen = choose(dict(enumerate(kind for kind, _ in captions)))
            pixels, sizes = fit(picture.image, [shape])
            text = "" if chosen is None else captions[chosen][1]
            return Item(name, torch.tensor(sizes), pixels=pixels, caption=text)
        raise EllaError(f"No picture of {self._shards[shard].name} can be read.")


def open_sources(sources: Sequence[SourceConfig], data: DataConfig) -> list[Source]:
    """Open each source's cache, or its pictures where it has none.

    Raises:
        EllaError: nothing is there, or the sources were cached with different contracts.
    """
    opened: list[Source] = [
        CacheSource(s.cache) if s.cache else PictureSource(s.pictures or Path(), data)
        for s in sources
    ]
    contracts = [source.contract for source in opened]
    first = contracts[0] if contracts else None
    for source, contract in zip(sources, contracts, strict=True):
        if (first is None) != (contract is None):
            raise EllaError(
                "Some sources are cached and others are not. Set cache in all or in none, and run "
                "ella-train precompute."
            )
        if first and contract:
            first.check(contract, f"folder {source.cache}")
    return opened
