"""From captions and pixels to what training reads: LLM features and latents."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..errors import EllaError
from ..text_encoders import EncodedPrompt, TextEncoder, load_text_encoder
from .config import LLMConfig, TextConfig

T = TypeVar("T")

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class CaptionEncoder:
    """An LLM that reads captions as a config asks.

    Attributes:
        encoder: the LLM.
        path: where it came from.
    """

    def __init__(self, llm: LLMConfig, text: TextConfig, device: torch.device) -> None:
        """Load the LLM.

        Args:
            llm: which one.
            text: how captions are read.
            device: where it computes.

        Raises:
            EllaError: no LLM is given, or it can't be loaded.
        """
        if llm.path is None:
            raise EllaError("Encoding captions needs an LLM. Set llm.path.")
        self.path: Path = llm.path
        self._text = text
        automatic = torch.float32 if device.type == "cpu" else torch.float16
        self.encoder: TextEncoder = load_text_encoder(llm.path, _DTYPES.get(llm.dtype, automatic))
        if llm.spread:
            self.encoder.model = _spread(self.encoder.model)
        else:
            self.encoder.model.to(device)

    def __call__(self, captions: Sequence[str]) -> list[torch.Tensor]:
        """Read captions for training.

        Returns:
            (L, llm_dim) features each, in 16 bit on the CPU.

        Raises:
            EllaError: what the LLM makes of a caption does not fit into 16 bit.
        """
        return [_in_16_bit(prompt.features[0]) for prompt in self.encode_prompts(captions)]

    def encode_prompts(self, captions: Sequence[str]) -> list[EncodedPrompt]:
        """Read texts as captions are read, in the LLM's own dtype and on its device."""
        tokens = self._text.tokens
        prompts = self.encoder.encode(captions, 0 if self._text.flexible else tokens)
        for i, prompt in enumerate(prompts):
            if prompt.tokens > tokens:  # flexible and too long
                (prompts[i],) = self.encoder.encode([captions[i]], tokens)
        return prompts


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut into lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def encode_pixels(vae: Any, pixels_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Encode pictures.

    Args:
        vae: diffusers' `AutoencoderKL` or `AutoencoderTiny`.
        pixels_B3HW: -1 to 1.

    Returns:
        Mean and standard deviation of the posterior, (B, C, h, w) each and scaled for the U-Net;
        None for a VAE that has no deviation.
    """
    scale = vae.config.scaling_factor
    with torch.no_grad():
        encoded = vae.encode(pixels_B3HW.to(vae.device, vae.dtype))
    if hasattr(encoded, "latents"):
        return encoded.latents * scale, None
    return encoded.latent_dist.mean * scale, encoded.latent_dist.std * scale


def _in_16_bit(features_LD: torch.Tensor) -> torch.Tensor:
    dtype = torch.float16 if features_LD.dtype == torch.float32 else features_LD.dtype
    stored = features_LD.to("cpu", dtype)
    if not stored.isfinite().all():
        raise EllaError(
            f"The LLM's features are too large for {dtype}. Set llm.dtype to bf16, which is stored "
            f"as it is."
        )
    return stored


def _spread(model: Any) -> Any:
    """Put a model's layers on all devices and, if they don't suffice, into main memory."""
    from accelerate import dispatch_model, infer_auto_device_map

    undivided = model._no_split_modules
    return dispatch_model(model, infer_auto_device_map(model, no_split_module_classes=undivided))
