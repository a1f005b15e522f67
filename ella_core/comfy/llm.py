"""What travels on the ELLA_LLM and ELLA_LLM_EMBEDS wires."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from comfy import model_management
from comfy.cli_args import args

from ..config import TRAINED_TOKENS
from ..errors import EllaError
from .memory import Holder, WholeModelPatcher

if TYPE_CHECKING:
    from ..text_encoders import EncodedPrompt, TextEncoder

logger = logging.getLogger("ella")

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


Parts = tuple[tuple[torch.Tensor, float], ...]


@dataclass(frozen=True)
class LLMEmbeds:
    """ELLA_LLM_EMBEDS: a weighted mix of prompts, each as an LLM has read it.

    Prompts differ in length, so their features can't be averaged. The tokens that the connector
    makes of them can: the mix is taken there, at every timestep.

    Attributes:
        parts: features (1, L, D) on ComfyUI's intermediate device, and weight, of each prompt.
        empty: the same for the empty prompt, what a strength of 0 stands for.
        llm: the LLM's name in its dropdown.
    """

    parts: Parts
    empty: Parts
    llm: str

    @property
    def width(self) -> int:
        """Width D of the LLM's features."""
        return self.parts[0][0].shape[-1]

    def with_strength(self, strength: float) -> "LLMEmbeds":
        """From the empty prompt (0) to the prompt (1), and beyond it."""
        return replace(self, parts=_mix((self.parts, strength), (self.empty, 1 - strength)))

    def blended_with(self, other: "LLMEmbeds", factor: float) -> "LLMEmbeds":
        """From this prompt (0) to the other (1).

        Raises:
            EllaError: another LLM has read the other.
        """
        if (self.llm, self.width) != (other.llm, other.width):
            raise EllaError(
                f"One prompt was read by {self.llm}, the other by {other.llm}. Connect both "
                f"LLM Text Encode (ELLA) nodes to the same Load LLM (ELLA)."
            )
        return replace(
            self,
            parts=_mix((self.parts, 1 - factor), (other.parts, factor)),
            empty=_mix((self.empty, 1 - factor), (other.empty, factor)),
        )


def _mix(*groups: tuple[Parts, float]) -> Parts:
    """Scale each group of parts by its weight; a prompt that is in several is counted once."""
    mixed: dict[int, tuple[torch.Tensor, float]] = {}
    for parts, scale in groups:
        for features, weight in parts:
            _, before = mixed.get(id(features), (features, 0.0))
            mixed[id(features)] = (features, before + weight * scale)
    return tuple(part for part in mixed.values() if part[1] != 0)


class LLM:
    """ELLA_LLM: an LLM that ComfyUI can load and evict.

    Attributes:
        name: its name in the dropdown.
        patcher: how ComfyUI moves it between devices.
    """

    def __init__(self, name: str, encoder: "TextEncoder") -> None:
        self.name = name
        self._encoder = encoder
        self._empty: dict[int, torch.Tensor] = {}  # by max_length
        self.patcher = WholeModelPatcher(
            Holder(encoder.model),
            load_device=model_management.text_encoder_device(),
            offload_device=model_management.text_encoder_offload_device(),
        )

    def encode(self, text: str, max_length: int, chunked: bool = False) -> tuple[LLMEmbeds, str]:
        """Read a prompt on the device that ComfyUI gives to text encoders.

        The arguments are those of `TextEncoder.encode`.

        Returns:
            The embeds, and a line for the user on how many tokens were read.
        """
        model_management.load_models_gpu([self.patcher], force_full_load=True)
        prompt = self._encoder.encode(text, max_length, chunked)
        device = model_management.intermediate_device()
        if max_length not in self._empty:
            self._empty[max_length] = self._encoder.encode("", max_length).features.to(device)
        summary = _summarise(prompt)
        if prompt.tokens > TRAINED_TOKENS or prompt.dropped:
            logger.warning("%s", summary)
        features = prompt.features.to(device)
        empty = self._empty[max_length]
        return LLMEmbeds(((features, 1.0),), ((empty, 1.0),), self.name), summary


def load_llm(name: str, path: Path, dtype: str) -> LLM:
    """Open the LLM at `path` for ComfyUI.

    Args:
        name: its name in the dropdown.
        path: see `load_text_encoder`.
        dtype: a key of `DTYPES`, or "auto": fp16 on a GPU, fp32 on the CPU, unless ComfyUI was
            started with a flag that sets the text encoders' dtype.
    """
    from ..text_encoders import load_text_encoder  # not at ComfyUI's start

    return LLM(name, load_text_encoder(path, DTYPES.get(dtype) or _auto_dtype()))


def _auto_dtype() -> torch.dtype:
    """The released connector was trained on fp16 features; the CPU computes fp16 slowly or not."""
    if args.fp32_text_enc:
        return torch.float32
    if args.bf16_text_enc:
        return torch.bfloat16
    device = model_management.text_encoder_device()
    use_fp16 = args.fp16_text_enc or model_management.should_use_fp16(
        device, prioritize_performance=False
    )
    return torch.float16 if use_fp16 else torch.float32


def _summarise(prompt: "EncodedPrompt") -> str:
    count = f"{prompt.tokens:,} token{'' if prompt.tokens == 1 else 's'}"
    if prompt.chunks > 1:
        count += f" in {prompt.chunks:,} chunks of at most {prompt.chunk_length}"
    lines = [count]
    if prompt.weighted:
        lines.append(f"{prompt.weighted:,} of them weighted")
    if prompt.tokens > TRAINED_TOKENS:
        lines.append(
            f"the released ELLA was trained on {TRAINED_TOKENS} and has not seen longer prompts"
        )
    if prompt.windows > 1:
        lines.append(f"read in {prompt.windows} pieces, which don't know of each other")
    if prompt.dropped:
        lines.append(f"{prompt.dropped:,} more were cut off by max_length; 0 keeps them all")
    return "; ".join(lines)
