"""The type on the ELLA_LLM wire: an LLM that ComfyUI can load and evict."""

import logging
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary, ref

import torch
from comfy import model_management
from comfy.cli_args import args
from comfy.utils import ProgressBar

from ...config import ADAPTER_RECIPES, PLAIN, QUANTIZATIONS, PromptTemplate, ReadingRecipe
from ...errors import EllaError
from ..editor.events import send_report
from ..files.folders import llm_identity
from ..memory import Holder, WholeModelPatcher
from .embeds import Asked, LLMEmbeds
from .writing import WritingLLM

if TYPE_CHECKING:
    from ...text_encoders import EncodedPrompt, PromptCounts, TextEncoder

# Encoders are imported inside the functions, because they would slow down ComfyUI's start.

logger = logging.getLogger("ella")

_COMPUTED_IN = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
DTYPES = (*_COMPUTED_IN, *QUANTIZATIONS)


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
                started with --fp16-text-enc, --bf16-text-enc or --fp32-text-enc; bf16 on a GPU for
                LLMs of the Gemma family, whose numbers fp16 can't hold. The 8-bit ones compute in
                what "auto" is.

        Raises:
            EllaError: an unknown dtype, or see `check_text_encoder`.
        """
        from ...text_encoders import check_text_encoder
        from ...text_encoders.model_type import model_type_of

        if dtype not in ("auto", *DTYPES):  # ComfyUI itself takes any
            raise EllaError(
                f"dtype is {dtype!r}; set it to auto, {', '.join(DTYPES)} in Load LLM (ELLA)."
            )
        self._quantization = dtype if dtype in QUANTIZATIONS else None
        check_text_encoder(path, self._quantization)
        model_type = model_type_of(path)
        self._dtype = _COMPUTED_IN.get(dtype) or _auto_dtype(model_type)
        self._recipe = ADAPTER_RECIPES.get(model_type or "", PLAIN)
        self._opened_with = (name, path, dtype)
        self.name = name
        self._path = path
        self._identity = llm_identity(path)
        self._encoder: TextEncoder | None = None
        self.patcher: WholeModelPatcher | None = None
        self._writing = WritingLLM(name, path, self._dtype)
        # By max_length and what is around them.
        self._empty: dict[tuple[int, PromptTemplate | None, ReadingRecipe], EncodedPrompt] = {}
        # Equal prompts are one object, so that the connector computes their contexts once.
        self._in_use: WeakValueDictionary[tuple[Any, ...], EncodedPrompt] = WeakValueDictionary()

    def within(self, template: PromptTemplate) -> "TemplatedLLM":
        """Return the LLM with a template around every prompt that it reads."""
        return TemplatedLLM(self, template)

    def get_ram_usage(self) -> int:
        """Return the bytes of the weights, by which ComfyUI's --cache-ram chooses what to evict."""
        patchers = filter(None, (self.patcher, self._writing.patcher))
        size: int = sum(patcher.model_size() for patcher in patchers)
        return size

    def write(self, instruction: str, text: str, seed: int, tokens: int) -> str:
        """Have a chat LLM write, see `writer.write`; what it writes is shown on the running node.

        Its language head makes it a model of its own, beside the one that reads.

        Raises:
            EllaError: it is stored in 8 bits, or see `load_writer` and `writer.write`.
        """
        if self._quantization:
            raise EllaError(
                f"An LLM in {self._quantization} can't write. Choose auto as dtype in Load LLM "
                f"(ELLA)."
            )
        return self._writing.write(instruction, text, seed, tokens)

    def encode(
        self,
        text: str,
        max_length: int,
        chunked: bool = False,
        markup: bool = True,
        template: PromptTemplate | None = None,
    ) -> LLMEmbeds:
        """Read a prompt on the device that ComfyUI gives to text encoders, or find it in the cache.

        It is read as the released adapter of this LLM wants it, if there is one; else as it stands.
        Reports on the running node how many tokens were read.

        Args:
            text: see `encode_prompt`.
            max_length: see there.
            chunked: see there.
            markup: see there.
            template: goes around the prompt in place of what a connector wants there.

        Raises:
            EllaError: see `load_text_encoder` and `encode_prompt`.
        """
        # ComfyUI makes a text of a number that is written in a node, not of one from another node.
        asked = Asked(str(text), max_length, chunked, markup, template)
        embeds = self._embeds(asked, self._recipe)
        ((prompt, _),) = embeds.parts
        send_report("prompt", _summarise(prompt), read=text, **_counts(prompt))
        return embeds

    def _embeds(self, asked: Asked, recipe: ReadingRecipe) -> LLMEmbeds:
        prompt = self._read(asked, recipe)
        if prompt.dropped:
            logger.warning("%s", _summarise(prompt))
        about = (asked.max_length, asked.template, recipe)
        if about not in self._empty:
            blank = Asked("", asked.max_length, template=asked.template)
            self._empty[about] = self._read(blank, recipe)
        empty = self._empty[about]
        again = _reader(ref(self), self._opened_with, asked)
        parts, nothing = ((prompt, 1.0),), ((empty, 1.0),)
        return LLMEmbeds(parts, nothing, self.name, recipe, again, asked, self._path)

    def _read(self, asked: Asked, recipe: ReadingRecipe) -> "EncodedPrompt":
        """Read a prompt or find it in the cache; its features are on the intermediate device."""
        from ...text_encoders import encode_prompt
        from .cache import cache_key, feature_cache

        prompt = self._in_use.get((asked, recipe))
        if prompt is not None:
            return prompt
        wanted = asked.template.over(recipe) if asked.template else recipe
        about = (asked.text, asked.max_length, asked.chunked, asked.markup)
        about += () if wanted == PLAIN else astuple(wanted)
        key = cache_key(self._identity, str(self._dtype), self._quantization, *about)
        prompt = feature_cache().get(key)
        if prompt is None:
            options = (asked.chunked, _show_pieces, wanted, asked.markup)
            prompt = encode_prompt(self._loaded(), asked.text, asked.max_length, *options)
            feature_cache().put(key, prompt)
        features = prompt.features.to(model_management.intermediate_device())
        prompt = replace(prompt, features=features, recipe=wanted)
        self._in_use[asked, recipe] = prompt
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
            if llm_identity(self._path) != self._identity:
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


@dataclass(frozen=True)
class TemplatedLLM:
    """ELLA_LLM: an LLM that reads every prompt within a template of the user's."""

    llm: LLM
    template: PromptTemplate

    @property
    def patcher(self) -> WholeModelPatcher | None:
        """What moves the LLM between devices."""
        return self.llm.patcher

    def get_ram_usage(self) -> int:
        """Return the bytes of the LLM's weights."""
        return self.llm.get_ram_usage()

    def encode(self, text: str, max_length: int, chunked: bool = False) -> LLMEmbeds:
        """Read a prompt within the template; see `LLM.encode`."""
        return self.llm.encode(text, max_length, chunked, template=self.template)

    def write(self, instruction: str, text: str, seed: int, tokens: int) -> str:
        """Write without the template, which is for reading; see `LLM.write`."""
        return self.llm.write(instruction, text, seed, tokens)

    def within(self, template: PromptTemplate) -> "TemplatedLLM":
        """Return the LLM with another template in place of this one."""
        return TemplatedLLM(self.llm, template)


def _reader(
    llm: "ref[LLM]", opened_with: tuple[str, Path, str], asked: Asked
) -> Callable[[ReadingRecipe], LLMEmbeds]:
    """Return a function that reads a prompt again and keeps no LLM in memory until then."""

    def read_again(recipe: ReadingRecipe) -> LLMEmbeds:
        return (llm() or LLM(*opened_with))._embeds(asked, recipe)

    return read_again


def _show_pieces(done: int, of: int) -> None:
    """Show how many pieces (chunks, windows) of a prompt have been read."""
    ProgressBar(of).update_absolute(done)
    if done < of:
        text = f"reading: {done:,} of {of:,} pieces done"
        send_report("reading", text, done=done, of=of)


def _auto_dtype(model_type: str | None) -> torch.dtype:
    """Return fp16, which the released connector was trained on, or fp32 where fp16 is slow.

    For Gemma's family bf16 takes the place of fp16.
    """
    if args.fp32_text_enc:
        return torch.float32
    if args.bf16_text_enc:
        return torch.bfloat16
    device = model_management.text_encoder_device()
    if "gemma" in (model_type or "") and not args.fp16_text_enc:
        use_bf16 = model_management.should_use_bf16(device, prioritize_performance=False)
        return torch.bfloat16 if use_bf16 else torch.float32
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
