"""Keep the pictures that the paper would keep (section 3.2): beautiful and large ones."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from ..errors import EllaError
from ..prompt_statistics import CountTokens, Tag, prompt_statistics, rows
from .aesthetics import ClipPredictor, Predictor, custom_predictor
from .encoding import batched
from .pictures import PictureShard, Problems, picture_shards
from .stages import SHARD_SIZE, Sample, Work


@dataclass(frozen=True)
class FilterOptions:
    """Rules for keeping pictures.

    Attributes:
        score: the aesthetic score has to be higher.
        edge: the short edge has to be as long, in pixels.
        clip: CLIP of the predictor, see `ClipPredictor`.
        head: its layers; None with another predictor.
        predictor: the other one, see `custom_predictor`.
    """

    score: float = 6.0
    edge: int = 512
    clip: str = "openai/clip-vit-large-patch14"
    head: str | None = None
    predictor: str | None = None


class Filter:
    """The stage that filters; see `stages.Stage`."""

    name = "filter"

    def __init__(self, options: FilterOptions, batch: int = 32) -> None:
        """Prepare to score `batch` pictures at a time.

        Raises:
            EllaError: not exactly one predictor is given.
        """
        if (options.head is None) == (options.predictor is None):
            raise EllaError(
                "Filtering needs one aesthetic predictor: --head with the file of LAION's layers "
                "(sac+logos+ava1-l14-linearMSE.pth), or --predictor package.module:function."
            )
        self.settings: Mapping[str, Any] = asdict(options)
        self._options, self._batch = options, batch

    def load(self, device: torch.device) -> None:
        """See `Stage.load`.

        Raises:
            EllaError: see `ClipPredictor` and `custom_predictor`.
        """
        options = self._options
        self._predict: Predictor = (
            ClipPredictor(options.clip, Path(options.head), device)
            if options.head
            else custom_predictor(options.predictor or "", device)
        )

    def samples(self, shard: PictureShard, work: Work) -> Iterator[Sample]:
        """See `Stage.samples`."""
        options = self._options
        sizes = dict(shard.sizes(work.problems))
        large = [key for key, size in sizes.items() if min(size) >= options.edge]
        self._drop(work, f"short edge under {options.edge} pixels", len(sizes) - len(large))
        for pictures in batched(shard.read(work.problems, large, captioned=False), self._batch):
            scores = self._predict([picture.image for picture in pictures])
            for picture, score in zip(pictures, scores, strict=True):
                if score > options.score:
                    work.advance(1)
                    yield picture.key, shard.files(picture.key)
                else:
                    self._drop(work, f"score not over {options.score:g}", 1)

    @staticmethod
    def _drop(work: Work, rule: str, count: int) -> None:
        work.dropped[rule] += count
        work.advance(count)


def compare(
    before: Path, after: Path, count_tokens: CountTokens | None, tag: Tag | None
) -> list[str]:
    """Describe the captions of two folders of pictures, as Table 1 of the paper does.

    Args:
        before: folder of pictures or shards.
        after: folder of what is left of them.
        count_tokens: see `prompt_statistics`.
        tag: see `prompt_statistics`.

    Returns:
        Lines of a table.

    Raises:
        EllaError: nothing is left.
    """
    columns = [_statistics(folder, count_tokens, tag) for folder in (before, after)]
    names = [name for name, _ in columns[0]]
    lines = [f"{'':<20}{'before':>12}{'after':>12}"]
    lines += [
        f"{name:<20}{dict(columns[0])[name]:>12}{dict(columns[1]).get(name, '-'):>12}"
        for name in names
    ]
    return lines


def _statistics(
    folder: Path, count_tokens: CountTokens | None, tag: Tag | None
) -> list[tuple[str, str]]:
    problems = Problems()
    shards = picture_shards(folder, SHARD_SIZE, problems)
    pictures = sum(len(shard.samples) for shard in shards)
    texts = (text for shard in shards for text in shard.all_captions(problems))
    first = next(texts, None)
    if first is None:
        return [("pictures", str(pictures))]
    found = prompt_statistics(chain([first], texts), count_tokens, tag)
    return [("pictures", str(pictures)), ("captions", str(found.count)), *rows(found)]
