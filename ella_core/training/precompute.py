"""Encode all pictures and captions once, into shards that training reads.

Each shard of pictures becomes one shard of the cache, written whole or not at all: an interrupted
run goes on with the shards that are missing or were made of other pictures. Under `accelerate
launch` each process takes every n-th of them.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..errors import EllaError
from .bases import load_base
from .cache import DamagedShardError, EncodedPicture, Shard, write_shard
from .config import SourceConfig, TrainConfig
from .contract import Contract, llm_identity, weights_identity
from .crop import fit, shapes
from .encoding import CaptionEncoder, batched, encode_pixels
from .pictures import Picture, PictureShard, Problems, picture_shards
from .stages import SHARD_SIZE, process_state, warn_of_others

_LOG = logging.getLogger("ella")

Captions = list[tuple[str, str]]  # kind and text
#: Pictures whose captions are encoded together. The LLM reads those of equal length in one pass,
#: and of fewer captions hardly any two are of equal length.
_BATCH = 250


def precompute(config: TrainConfig) -> Problems:
    """Encode all sources that have both `pictures` and `cache`.

    Returns:
        What was skipped by this process.

    Raises:
        EllaError: see `CaptionEncoder`, `load_base`, `picture_shards`; the disk is full; or a
            shard that is already there was made with another contract.
    """
    state = process_state()
    everything = (*config.data.sources, *config.validation.sources)
    sources = [source for source in everything if source.pictures and source.cache]
    if not sources:
        raise EllaError("No source has both pictures and cache. Set them in data.sources.")
    problems = Problems()
    work = list(_work({source.cache: source for source in sources}.values(), problems))
    mine = work[state.process_index :: state.num_processes]
    encoders = _Encoders(config, state.device)
    with tqdm(
        total=sum(len(shard.samples) for _, shard, _ in mine),
        desc=f"precompute, process {state.process_index + 1} of {state.num_processes}",
        unit="picture",
        disable=not state.is_local_main_process,
    ) as bar:
        for path, shard, empty_context in mine:
            if encoders.has_made(path, shard):
                bar.update(len(shard.samples))
            else:
                encoders.write(path, shard, empty_context, problems, bar)
    state.wait_for_everyone()
    if state.is_main_process:
        for folder, paths in groupby((path for path, *_ in work), key=lambda path: path.parent):
            warn_of_others(folder, list(paths))
    return problems


def _work(
    sources: Iterable[SourceConfig], problems: Problems
) -> Iterator[tuple[Path, PictureShard, torch.Tensor | None]]:
    """Yield each shard's path, its content, and the context of its empty caption if any."""
    for source in sources:
        assert source.pictures
        assert source.cache
        target = source.pictures / "empty.context.npy"
        context = torch.from_numpy(np.load(target)) if target.is_file() else None
        for shard in picture_shards(source.pictures, SHARD_SIZE, problems):
            yield source.cache / f"{shard.name}.safetensors", shard, context


class _Encoders:
    """LLM and VAE, and the contract that they stand for."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        vae = load_base(config.base).vae
        if vae is None:
            raise EllaError(f"{config.base.path} holds no VAE, which encodes the pictures.")
        # In float32, because SDXL's VAE overflows in fp16.
        self.vae = vae.to(device, torch.float32)
        self.captions = CaptionEncoder(config.llm, config.text, device)
        self.choices = shapes(config.data.resolution, config.data.buckets, config.data.bucket_step)
        (self.empty,) = self.captions([""])
        self.contract = make_contract(config, self.captions, self.vae)

    def has_made(self, path: Path, pictures: PictureShard) -> bool:
        """Whether a shard is there already, whole and of these pictures.

        Raises:
            EllaError: it was made with another contract.
        """
        if not path.is_file():
            return False
        try:
            shard = Shard(path)
        except DamagedShardError as error:
            _LOG.warning("%s It is made again.", error)
            return False
        self.contract.check(shard.contract, str(path))
        skipped = (name.removeprefix(f"{pictures.name}/") for name in shard.skipped)
        if {*shard.keys, *skipped} != set(pictures.samples):
            _LOG.warning("%s was made of other pictures. It is made again.", path)
            return False
        return True

    def write(
        self,
        path: Path,
        shard: PictureShard,
        empty_context: torch.Tensor | None,
        problems: Problems,
        bar: Any,
    ) -> None:
        """Encode and write one shard."""
        skipped = Problems()
        encoded: list[EncodedPicture] = []
        # One picture at a time in memory: a photograph may have a hundred megabytes.
        without_captions = (
            (self._encode_image(picture), picture.all_captions) for picture in shard.read(skipped)
        )
        for pictures in batched(without_captions, _BATCH):
            encoded += self._add_captions(pictures)
            bar.update(len(pictures))
        problems.skipped += skipped.skipped
        bar.update(len(skipped.skipped))
        if encoded:
            write_shard(path, self.contract, encoded, self.empty, empty_context, skipped.skipped)
        else:
            _LOG.warning("No picture of %s could be read", shard.name)

    def _encode_image(self, picture: Picture) -> EncodedPicture:
        pixels, sizes = fit(picture.image, self.choices)
        mean, std = encode_pixels(self.vae, pixels[None])
        return EncodedPicture(
            key=picture.key,
            shape=(pixels.shape[1], pixels.shape[2]),
            latents=mean[0].cpu(),
            std=None if std is None else std[0].cpu(),
            sizes=sizes,
            captions=(),
            context=None if picture.context is None else torch.from_numpy(picture.context),
        )

    def _add_captions(
        self, pictures: Sequence[tuple[EncodedPicture, Captions]]
    ) -> Iterator[EncodedPicture]:
        texts = [text for _, captions in pictures for _, text in captions]
        features = iter(self.captions(texts))
        for picture, captions in pictures:
            yield replace(picture, captions=[(kind, next(features)) for kind, _ in captions])


def make_contract(config: TrainConfig, captions: CaptionEncoder, vae: Any) -> Contract:
    """State what features and latents are computed with."""
    model = captions.encoder.model
    return Contract(
        llm=captions.path.name,
        llm_identity=llm_identity(captions.path),
        llm_type=captions.encoder.identity.model_type,
        llm_layers=captions.encoder.identity.layers,
        llm_dim=captions.encoder.width,
        llm_dtype=str(model.dtype).removeprefix("torch."),
        tokens=config.text.tokens,
        flexible=config.text.flexible,
        vae_identity=weights_identity(vae),
        resolution=config.data.resolution,
        buckets=config.data.buckets,
        bucket_step=config.data.bucket_step,
    )
