"""What travels on the ELLA_LLM and ELLA_LLM_EMBEDS wires."""

import logging
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
from comfy import model_management
from comfy.cli_args import args
from comfy.utils import ProgressBar

from ...config import QUANTIZATIONS, LLMIdentity
from ...errors import EllaError
from ..editor.events import send_report
from ..files.folders import file_identity
from ..memory import Holder, WholeModelPatcher

if TYPE_CHECKING:
    from ...text_encoders import EncodedPrompt, PromptCounts, TextEncoder

# Encoders are imported inside the functions, because they would slow down ComfyUI's start.

logger = logging.getLogger("ella")

_COMPUTED_IN = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
DTYPES = (*_COMPUTED_IN, *QUANTIZATIONS)

Parts = tuple[tuple["EncodedPrompt", float], ...]


@dataclass(frozen=True)
class LLMEmbeds:
    """ELLA_LLM_EMBEDS: a weighted mix of prompts, each as an LLM has read it.

    Prompts differ in length, so their features can't be averaged. Their contexts can: the mix is
    taken there, at every timestep.

    Attributes:
        parts: each prompt, its features on ComfyUI's intermediate device, and its weight.
        empty: the same for the empty prompt, which a strength of 0 stands for.
        llm: the LLM's name in its dropdown.
    """

    parts: Parts
    empty: Parts
    llm: str

    @property
    def width(self) -> int:
        """Width D of the LLM's features."""
        return self.parts[0][0].features.shape[-1]

    @property
    def identity(self) -> LLMIdentity | None:
        """Facts that tell the LLM from others of its width; None if unknown."""
        return self.parts[0][0].llm

    @property
    def tokens(self) -> int:
        """Tokens of its longest prompt, special ones included, padding excluded."""
        return max(prompt.tokens for prompt, _ in self.parts)

    def with_strength(self, strength: float) -> "LLMEmbeds":
        """Mix the empty prompt (0) and the prompt (1); more overdrives the prompt."""
        return replace(self, parts=_mix((self.parts, strength), (self.empty, 1 - strength)))

    def blended_with(self, other: "LLMEmbeds", factor: float) -> "LLMEmbeds":
        """Mix this prompt (0) and the other (1).

        Raises:
            EllaError: another LLM has read the other.
        """
        self.check_same_llm(other)
        return replace(
            self,
            parts=_mix((self.parts, 1 - factor), (other.parts, factor)),
            empty=_mix((self.empty, 1 - factor), (other.empty, factor)),
        )

    def check_same_llm(self, other: "LLMEmbeds") -> None:
        """Refuse two prompts that two LLMs have read, because a connector knows one LLM.

        Raises:
            EllaError: two LLMs have read them.
        """
        if (self.llm, self.width) != (other.llm, other.width):
            raise EllaError(
                f"One prompt was read by {self.llm}, the other by {other.llm}. Connect both "
                f"LLM Text Encode (ELLA) nodes to the same Load LLM (ELLA)."
            )


def _mix(*groups: tuple[Parts, float]) -> Parts:
    """Scale each group of parts by its weight and add up the weights of each prompt."""
    mixed: dict[EncodedPrompt, float] = {}
    for parts, scale in groups:
        for prompt, weight in parts:
            mixed[prompt] = mixed.get(prompt, 0.0) + weight * scale
    return tuple((prompt, weight) for prompt, weight in mixed.items() if weight != 0)


class LLM:
    """ELLA_LLM: an LLM that ComfyUI can load and evict, read from the disk when it is needed.

    Attributes:
        name: its name in the dropdown.
        patcher: moves it between devices for ComfyUI; None until its weights are read.
    """

    def __init__(self, name: str, path: Path, dtype: str) -> None:
        """Check the LLM's files without reading its weights.

        Args:
            name: its name in the dropdown.
            path: see `load_text_encoder`.
            dtype: one of `DTYPES`, or "auto": fp16 on a GPU, fp32 on the CPU, unless ComfyUI was
                started with --fp16-text-enc, --bf16-text-enc or --fp32-text-enc. The 8-bit ones
                compute in what "auto" is.

        Raises:
            EllaError: an unknown dtype, or see `check_text_encoder`.
        """
        from ...text_encoders import check_text_encoder

        if dtype not in ("auto", *DTYPES):  # ComfyUI itself takes any
            raise EllaError(
                f"dtype is {dtype!r}; set it to auto, {', '.join(DTYPES)} in Load LLM (ELLA)."
            )
        self._quantization = dtype if dtype in QUANTIZATIONS else None
        self._dtype = _COMPUTED_IN.get(dtype) or _auto_dtype()
        check_text_encoder(path, self._quantization)
        self.name = name
        self._path = path
        self._identity = file_identity(path)
        self._encoder: TextEncoder | None = None
        self.patcher: WholeModelPatcher | None = None
        self._empty: dict[int, EncodedPrompt] = {}  # by max_length
        # Equal prompts are one object, so that the connector computes their contexts once.
        self._in_use: WeakValueDictionary[tuple[Any, ...], EncodedPrompt] = WeakValueDictionary()

    def get_ram_usage(self) -> int:
        """Return the bytes of the weights, by which ComfyUI's --cache-ram chooses what to evict."""
        size: int = self.patcher.model_size() if self.patcher else 0
        return size

    def encode(
        self, text: str, max_length: int, chunked: bool = False, markup: bool = True
    ) -> LLMEmbeds:
        """Read a prompt on the device that ComfyUI gives to text encoders, or find it in the cache.

        Reports on the running node how many tokens were read.

        Args:
            text: see `encode_prompt`.
            max_length: see there.
            chunked: see there.
            markup: False reads the text as it stands, `(words:1.3)` included, in one go.

        Raises:
            EllaError: see `load_text_encoder` and `encode_prompt`.
        """
        prompt = self._read(text, max_length, chunked, markup)
        if max_length not in self._empty:
            self._empty[max_length] = self._read("", max_length)
        summary = _summarise(prompt)
        if prompt.dropped:
            logger.warning("%s", summary)
        send_report("prompt", summary, **_counts(prompt))
        empty = self._empty[max_length]
        return LLMEmbeds(((prompt, 1.0),), ((empty, 1.0),), self.name)

    def _read(
        self, text: str, max_length: int, chunked: bool = False, markup: bool = True
    ) -> "EncodedPrompt":
        """Read a prompt or find it in the cache; its features are on the intermediate device."""
        from ...text_encoders import encode_prompt
        from .cache import cache_key, feature_cache

        asked = (text, max_length, chunked, markup)
        prompt = self._in_use.get(asked)
        if prompt is not None:
            return prompt
        key = cache_key(self._identity, str(self._dtype), self._quantization, *asked)
        prompt = feature_cache().get(key)
        if prompt is None:
            encoder = self._loaded()
            if markup:
                prompt = encode_prompt(encoder, text, max_length, chunked, _show_pieces)
            else:
                (prompt,) = encoder.encode([text], max_length)
            feature_cache().put(key, prompt)
        features = prompt.features.to(model_management.intermediate_device())
        self._in_use[asked] = prompt = replace(prompt, features=features)
        return prompt

    def _loaded(self) -> "TextEncoder":
        """Load the LLM onto the device that ComfyUI gives to text encoders."""
        from ...text_encoders import load_text_encoder, weight_bytes
        from .places import tokenizer_places

        bar = ProgressBar(3)  # steps: tokenizer open, weights read, weights on their device
        if self._encoder is None or self.patcher is None:
            logger.info("loading the LLM %s", self.name)
            send_report("loading", f"loading the LLM {self.name} ...", llm=self.name)
            with torch.inference_mode(False):  # see WholeModelPatcher
                encoder = load_text_encoder(
                    self._path,
                    self._dtype,
                    self._quantization,
                    on_tokenizer=lambda: bar.update_absolute(1),
                    places=tokenizer_places(),
                )
            if file_identity(self._path) != self._identity:
                raise EllaError(
                    f"The files of the LLM {self.name} have changed since Load LLM (ELLA) looked "
                    f"at them. Queue the prompt again."
                )
            self.patcher = WholeModelPatcher(
                Holder(encoder.model),
                load_device=model_management.text_encoder_device(),
                offload_device=model_management.text_encoder_offload_device(),
                size=weight_bytes(encoder.model),
            )
            self._encoder = encoder
            bar.update_absolute(2)
            model_management.throw_exception_if_processing_interrupted()
        model_management.load_models_gpu([self.patcher], force_full_load=True)
        bar.update_absolute(3)
        return self._encoder


def _show_pieces(done: int, of: int) -> None:
    """Show how many pieces (chunks, windows) of a prompt have been read."""
    ProgressBar(of).update_absolute(done)
    if done < of:
        text = f"reading: {done:,} of {of:,} pieces done"
        send_report("reading", text, done=done, of=of)


def _auto_dtype() -> torch.dtype:
    """Return fp16, which the released connector was trained on, or fp32 where fp16 is slow."""
    if args.fp32_text_enc:
        return torch.float32
    if args.bf16_text_enc:
        return torch.bfloat16
    device = model_management.text_encoder_device()
    use_fp16 = args.fp16_text_enc or model_management.should_use_fp16(
        device, prioritize_performance=False
    )
    return torch.float16 if use_fp16 else torch.float32


def _counts(prompt: "PromptCounts") -> dict[str, Any]:
    from ...text_encoders.tokenizer import PromptCounts

    return {field.name: getattr(prompt, field.name) for field in fields(PromptCounts)}


def _summarise(prompt: "PromptCounts") -> str:
    count = f"{prompt.tokens:,} token{'' if prompt.tokens == 1 else 's'}"
    if prompt.chunks > 1:
        count += f" in {prompt.chunks:,} chunks of at most {prompt.chunk_length}"
    lines = [count]
    if prompt.weighted:
        lines.append(f"{prompt.weighted:,} of them weighted")
    if prompt.windows > 1:
        lines.append(f"read in {prompt.windows} pieces, which don't know of each other")
    if prompt.dropped:
        lines.append(f"{prompt.dropped:,} more were cut off by max_length; 0 keeps them all")
    return "; ".join(lines)
