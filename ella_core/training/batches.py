"""Micro-batches of a training run, each a function of the seed and its number alone.

Shapes: B pictures, C latent channels, L LLM tokens, D LLM width, N context tokens.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from .config import TrainConfig
from .crop import Shape
from .order import SAMPLE, Order, generator
from .sources import Item, Source

TIMESTEPS = 1000
LATENT_CHANNELS, _PIXELS_PER_LATENT = 4, 8


@dataclass(frozen=True)
class Batch:
    """Some pictures with everything that is random about them.

    Attributes:
        items: pictures and captions; latents and features may still have to be encoded.
        timesteps: (B,) 0-999.
        noise: (B, C, h, w) what is added to the latents.
        posterior: (B, C, h, w) noise that draws the latents from the VAE's posterior.
    """

    items: Sequence[Item]
    timesteps: torch.Tensor
    noise: torch.Tensor
    posterior: torch.Tensor


@dataclass(frozen=True)
class Tensors:
    """A batch on its device, all encoded.

    Attributes:
        latents: (B, C, h, w) scaled for the U-Net.
        features: (B, L, D) padded to the longest caption.
        mask: (B, L) bool, False for padding; None where there is none.
        sizes: (B, 6) see `crop.fit`.
        context: (B, N, context_dim) targets of the alignment, None without.
        timesteps: (B,).
        noise: (B, C, h, w).
    """

    latents: torch.Tensor
    features: torch.Tensor
    mask: torch.Tensor | None
    sizes: torch.Tensor
    context: torch.Tensor | None
    timesteps: torch.Tensor
    noise: torch.Tensor


class TrainingPictures:
    """Micro-batch by its number: pictures, captions, timesteps and noise."""

    def __init__(self, config: TrainConfig, sources: Sequence[Source]) -> None:
        self._config, self._sources = config, sources
        self._order = Order(
            [source.buckets for source in sources],
            [source.weight for source in config.data.sources],
            config.micro_batch,
            config.data.shuffle_shards,
            config.seed,
        )

    def __getitem__(self, number: int) -> Batch:
        size = self._config.micro_batch
        return make_batch([self._draw(p) for p in range(number * size, (number + 1) * size)])

    def _draw(self, position: int) -> "Draw":
        rng = generator(self._config.seed, SAMPLE, position)
        source, shape, shard, number = self._order[position]
        empty = rng.random() < self._config.text.empty
        shares = self._config.data.sources[source].captions

        def choose(captions: Mapping[int, str]) -> int | None:
            chosen = choose_caption(captions, shares, rng)
            return None if empty else chosen

        item = self._sources[source].read(shard, shape, number, choose)
        return Draw(item, int(rng.integers(TIMESTEPS)), *_noise(rng, shape))


@dataclass(frozen=True)
class Draw:
    """One picture of a `Batch`."""

    item: Item
    timestep: int
    noise: torch.Tensor
    posterior: torch.Tensor


def choose_caption(
    captions: Mapping[int, str], shares: Mapping[str, float], rng: np.random.Generator
) -> int:
    """Choose a caption's number: a kind by its share, then evenly among those of that kind."""
    numbers = list(captions)
    weights = [shares.get(kind, 0.0) / _count(captions, kind) for kind in captions.values()]
    if not sum(weights):  # no shares are given, or none of a kind that this picture has
        weights = [1.0] * len(numbers)
    return int(rng.choice(numbers, p=np.array(weights) / sum(weights)))


def held_out(sources: Sequence[Source], config: TrainConfig) -> Iterator[Draw]:
    """The pictures of the validation: each once in every timestep band, always with the same noise.

    Band by band, so that each micro-batch is of one band.
    """
    bands = config.validation.bands
    for band in range(bands):
        places = _first_places(sources, config.validation.pictures)
        for n, (source, shape, shard, number) in enumerate(places):
            rng = generator(0, SAMPLE, n, band)
            shares = config.validation.sources[source].captions
            item = sources[source].read(
                shard, shape, number, lambda c, s=shares, r=rng: choose_caption(c, s, r)
            )
            timestep = int((band + rng.random()) / bands * TIMESTEPS)
            yield Draw(item, timestep, *_noise(rng, shape))


def make_batch(draws: Sequence[Draw]) -> Batch:
    """Join draws of one shape."""
    return Batch(
        [draw.item for draw in draws],
        torch.tensor([draw.timestep for draw in draws]),
        torch.stack([draw.noise for draw in draws]),
        torch.stack([draw.posterior for draw in draws]),
    )


class Encoders(Protocol):
    """Encoders of pictures and captions that are not cached."""

    def pixels(self, pixels_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `encoding.encode_pixels`."""

    def captions(self, captions: Sequence[str]) -> list[torch.Tensor]:
        """See `encoding.CaptionEncoder`."""


def to_tensors(batch: Batch, encoders: Encoders | None, device: torch.device) -> Tensors:
    """Encode what is not cached, draw the latents, pad the features, and move all to `device`."""
    items = batch.items
    if encoders is None:
        features = [item.features for item in items if item.features is not None]
        mean = torch.stack([item.latents for item in items if item.latents is not None])
        deviations = [item.std for item in items if item.std is not None]
        std = torch.stack(deviations) if deviations else None
    else:
        features = encoders.captions([item.caption or "" for item in items])
        mean, std = encoders.pixels(torch.stack([i.pixels for i in items if i.pixels is not None]))
    mean = mean.float().to(device)
    latents = mean if std is None else mean + std.float().to(device) * batch.posterior.to(device)
    padded, mask = pad(features)
    contexts = [item.context.float() for item in items if item.context is not None]
    return Tensors(
        latents,
        padded.to(device),
        None if mask is None else mask.to(device),
        torch.stack([item.sizes for item in items]).to(device),
        torch.stack(contexts).to(device) if contexts else None,
        batch.timesteps.to(device),
        batch.noise.to(device),
    )


def pad(features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Pad (L, D) features to the longest.

    Returns:
        (B, L, D) float32, and (B, L) bool that is False for padding; None if none was needed.
    """
    lengths = torch.tensor([len(feature) for feature in features])
    padded = pad_sequence([feature.float() for feature in features], batch_first=True)
    mask = torch.arange(padded.shape[1]) < lengths[:, None]
    return padded, None if mask.all() else mask


def read_ahead(pictures: TrainingPictures, numbers: Iterable[int], workers: int) -> Iterator[Batch]:
    """Yield micro-batches in the order of `numbers`, read by threads.

    Threads, because reading a cache is copying and decoding a picture happens outside of Python's
    lock; and nothing is left behind if the process is killed.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        ahead: deque[Future[Batch]] = deque()
        try:
            for number in numbers:
                ahead.append(pool.submit(pictures.__getitem__, number))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _first_places(sources: Sequence[Source], count: int) -> Iterator[tuple[int, Shape, int, int]]:
    """Source, shape, shard and number of the first pictures."""
    places = (
        (s, shape, shard, number)
        for s, source in enumerate(sources)
        for shape, sizes in source.buckets.items()
        for shard, size in enumerate(sizes)
        for number in range(size)
    )
    return islice(places, count)


def _noise(rng: np.random.Generator, shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise for the latents and for the posterior, (C, h, w) each."""
    size = (2, LATENT_CHANNELS, shape[0] // _PIXELS_PER_LATENT, shape[1] // _PIXELS_PER_LATENT)
    noise, posterior = torch.from_numpy(rng.standard_normal(size, dtype=np.float32))
    return noise, posterior


def _count(captions: Mapping[int, str], kind: str) -> int:
    return sum(other == kind for other in captions.values())
