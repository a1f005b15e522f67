"""Sheets of pictures: a row for each of some fixed prompts, the base beside the connector."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from ..connectors import Connector
from ..diffusers_adapter import attached
from .bases import Base
from .config import TrainConfig
from .encoding import CaptionEncoder

_LOG = logging.getLogger("ella")
_LINE = 14  # pixels above each row, for the prompt


class Sheets:
    """Draws the same prompts from the same noise each time (DDIM)."""

    def __init__(self, config: TrainConfig, base: Base, captions: CaptionEncoder) -> None:
        """Encode the prompts, and draw the base's own pictures if it brings a text encoder.

        Args:
            config: of the run.
            base: on its device.
            captions: reads the prompts; not needed any more afterwards.
        """
        self._sheet, self._base = config.sheet, base
        self._edge = config.data.resolution
        encode = captions.encode_prompts
        self._prompts = encode(self._sheet.prompts)
        self._negatives = encode([self._sheet.negative] * len(self._prompts))
        self._pipe = _pipeline(base)
        self._columns: list[list[Image.Image]] = []
        if config.base.path.is_dir():
            self._columns.append(self._base_pictures(config.base.path))
        else:
            _LOG.info("Sheets show the connector alone: a single-file base has no tokenizer.")

    def draw(self, connector: Connector) -> Image.Image:
        """Draw all prompts with a connector, beside the base's pictures."""
        pictures = []
        with attached(self._pipe, connector) as embed:
            for prompt, negative in zip(self._prompts, self._negatives, strict=True):
                pictures.append(self._picture(self._pipe, embed([prompt], [negative])))
        return _grid([*self._columns, pictures], self._sheet.prompts)

    def _base_pictures(self, folder: Path) -> list[Image.Image]:
        from diffusers import DiffusionPipeline

        pipe = DiffusionPipeline.from_pretrained(
            folder,
            unet=self._base.unet,
            vae=self._base.vae,
            scheduler=self._pipe.scheduler,
            safety_checker=None,
            local_files_only=True,
        )
        for name in ("text_encoder", "text_encoder_2"):
            if getattr(pipe, name, None) is not None:
                getattr(pipe, name).to(self._base.unet.device, self._base.unet.dtype)
        pipe.set_progress_bar_config(disable=True)
        negative = self._sheet.negative
        texts = ({"prompt": text, "negative_prompt": negative} for text in self._sheet.prompts)
        return [self._picture(pipe, text) for text in texts]

    @torch.no_grad()
    def _picture(self, pipe: Any, conditioning: dict[str, Any]) -> Image.Image:
        latents = pipe(
            **conditioning,
            height=self._edge,
            width=self._edge,
            num_inference_steps=self._sheet.steps,
            guidance_scale=self._sheet.cfg,
            generator=torch.Generator().manual_seed(self._sheet.seed),
            output_type="latent",
        ).images
        vae = self._base.vae.to(latents.device, torch.float32)
        decoded = vae.decode(latents.float() / vae.config.scaling_factor).sample[0]
        pixels = (decoded.clamp(-1, 1) + 1) * 127.5
        return Image.fromarray(pixels.round().byte().movedim(0, -1).cpu().numpy())


def _pipeline(base: Base) -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=base.prediction,
    )
    if base.family == "sdxl":
        none = (None, None, None, None)  # text encoders and tokenizers
        pipe = StableDiffusionXLPipeline(base.vae, *none, base.unet, scheduler)
    else:
        pipe = StableDiffusionPipeline(
            base.vae, None, None, base.unet, scheduler, None, None, requires_safety_checker=False
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _grid(columns: Sequence[Sequence[Image.Image]], prompts: Sequence[str]) -> Image.Image:
    width, height = columns[0][0].size
    row = height + _LINE
    sheet = Image.new("RGB", (width * len(columns), row * len(prompts)), "white")
    draw = ImageDraw.Draw(sheet)
    for y, prompt in enumerate(prompts):
        draw.text((2, y * row), prompt, fill="black")
        for x, pictures in enumerate(columns):
            sheet.paste(pictures[y], (x * width, y * row + _LINE))
    return sheet
