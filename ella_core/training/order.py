"""The order of pictures: a function of the seed and the position alone.

Nothing here has a state, so a run that is resumed jumps to its position, and any number of
processes see the same pictures.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import EllaError
from .crop import Shape

_MIXTURE, _SHARDS, _WINDOW, SAMPLE = range(4)  # what random numbers are for


def generator(seed: int, purpose: int, first: int, second: int = 0) -> np.random.Generator:
    """Random numbers of one place, independent of all others (Philox is counter-based)."""
    counter = np.array([0, second, first, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=seed, counter=counter))


class Mixture:
    """An endless sequence of children, each with its share in every stretch of 1000."""

    _STRETCH = 1000

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        """Mix as many children as there are weights.

        Raises:
            EllaError: a weight is less than a thousandth of all.
        """
        shares = np.array(weights) / sum(weights) * self._STRETCH
        if shares.min() < 1:
            raise EllaError(
                f"A weight of {min(weights):g} among {list(weights)} is less than a thousandth. "
                f"Raise it or leave the source out."
            )
        self._counts = np.floor(shares).astype(int)
        rest = np.argsort(self._counts - shares, kind="stable")
        self._counts[rest[: self._STRETCH - self._counts.sum()]] += 1
        self._seed = seed
        self._stretch = lru_cache(maxsize=4)(self._draw)

    def __getitem__(self, position: int) -> tuple[int, int]:
        """Return the child at a position, and how many times it came before."""
        stretch, place = divmod(position, self._STRETCH)
        children, ranks = self._stretch(stretch)
        child = int(children[place])
        return child, int(stretch * self._counts[child] + ranks[place])

    def _draw(self, stretch: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        children = np.repeat(np.arange(len(self._counts)), self._counts)
        children = generator(self._seed, _MIXTURE, stretch).permutation(children)
        ranks = np.zeros_like(children)
        for child in range(len(self._counts)):
            ranks[children == child] = np.arange(self._counts[child])
        return children, ranks


class Shuffled:
    """An endless sequence over the items of shards: every epoch all of them, in a new order.

    Shards are shuffled, then the items of every few shards together, so that reading stays within
    these few.
    """

    def __init__(self, sizes: Sequence[int], window: int, seed: int) -> None:
        """Shuffle shards of that many items, `window` shards together."""
        self._sizes, self._window, self._seed = np.array(sizes), window, seed
        self._count = int(self._sizes.sum())
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)
        self._items = lru_cache(maxsize=4)(self._draw_window)

    def __getitem__(self, position: int) -> tuple[int, int]:
        """Return shard and item at a position."""
        epoch, place = divmod(position, self._count)
        _, ends = self._epoch(epoch)
        window = int(np.searchsorted(ends, place, side="right"))
        shards, items = self._items(epoch, window)
        inside = place - (int(ends[window - 1]) if window else 0)
        return int(shards[inside]), int(items[inside])

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Order of the shards, and where each window of them ends."""
        order = generator(self._seed, _SHARDS, epoch).permutation(len(self._sizes))
        starts = range(0, len(order), self._window)
        sizes = [self._sizes[order[i : i + self._window]].sum() for i in starts]
        return order, np.cumsum(sizes)

    def _draw_window(
        self, epoch: int, window: int
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        order, _ = self._epoch(epoch)
        shards = order[window * self._window : (window + 1) * self._window]
        items = np.concatenate([np.arange(self._sizes[shard]) for shard in shards])
        mixed = generator(self._seed, _WINDOW, epoch, window).permutation(len(items))
        return np.repeat(shards, self._sizes[shards])[mixed], items[mixed]


class Order:
    """The picture at each position of a training run, over sources and shapes.

    A micro-batch has one shape. Shapes come as often as the weighted sources have them, and within
    a shape the sources come by their weights.
    """

    def __init__(
        self,
        sources: Sequence[Mapping[Shape, Sequence[int]]],
        weights: Sequence[float],
        micro_batch: int,
        window: int,
        seed: int,
    ) -> None:
        """Order pictures.

        Args:
            sources: for each, shape -> number of pictures of that shape in each of its shards.
            weights: share of each source.
            micro_batch: pictures that go through the U-Net together.
            window: shards that are shuffled together.
            seed: of everything.
        """
        self._micro_batch = micro_batch
        self._shapes = sorted({shape for source in sources for shape in source})
        totals = [sum(sum(sizes) for sizes in source.values()) for source in sources]
        shares = {
            shape: {
                s: weights[s] * sum(source[shape]) / totals[s]
                for s, source in enumerate(sources)
                if sum(source.get(shape, ()))
            }
            for shape in self._shapes
        }
        # A shape that hardly occurs still comes once in a thousand micro-batches.
        least = sum(sum(by_source.values()) for by_source in shares.values()) / 900
        self._mixture = Mixture([max(least, sum(shares[s].values())) for s in self._shapes], seed)
        self._sources = {shape: list(by_source) for shape, by_source in shares.items()}
        self._within = {
            shape: Mixture([max(w, sum(by.values()) / 900) for w in by.values()], seed)
            for shape, by in shares.items()
        }
        self._shuffled = {
            (s, shape): Shuffled(source[shape], window, seed)
            for s, source in enumerate(sources)
            for shape in source
        }

    def __getitem__(self, position: int) -> tuple[int, Shape, int, int]:
        """Return source, shape, shard of the source, and number in the shard's shape."""
        micro_batch, place = divmod(position, self._micro_batch)
        shape_number, before = self._mixture[micro_batch]
        shape = self._shapes[shape_number]
        chosen, rank = self._within[shape][before * self._micro_batch + place]
        source = self._sources[shape][chosen]
        return source, shape, *self._shuffled[source, shape][rank]
