"""A prompt inside a CONDITIONING."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import lcm
from typing import TYPE_CHECKING, Any, Protocol

import torch
from comfy.conds import CONDRegular
from comfy.model_management import intermediate_device, load_models_gpu

from ...errors import EllaError
from ...store import Passes
from ..llm.embeds import LLMEmbeds
from .connector import ELLA, read_for

if TYPE_CHECKING:
    from ...text_encoders import EncodedPrompt

KEY = "ella"  # of the wrappers on MODEL, and of the prompt in a conditioning's model_conds

_STATIC_TIMESTEP = 499


class Observer(Protocol):
    """Hears what the prompts of one conditioning node need while a sampler runs."""

    def add(self, passes: Passes) -> None:
        """Hear of passes that the connector has made."""

    def progress(self, done: int, of: int) -> None:
        """Hear how many of the passes that a whole schedule needs are done."""

    def show(self) -> None:
        """Hear that a sampler has finished."""

    def warn_of_change(self) -> None:
        """Hear that a context was replaced in a way that can't be repeated at other timesteps."""

    def warn_of_length(self, connector: str, tokens: int, trained: int) -> None:
        """Hear that a prompt has more tokens than the connector was trained on."""


class TimestepPrompt:
    """A prompt, or a mix of prompts, with a context for every timestep.

    Where the connector makes a pooled embedding too, `pooled` has one for every timestep.

    Attributes:
        ella: the connector that computes the contexts.
        embeds: what the connector reads.
        static: (1, N, C) context of a middle timestep. The CONDITIONING starts with a copy of it,
            which other nodes see and edit. It is a plain tensor: a reference cycle would let the
            garbage collector free the connector while ComfyUI unloads other models, which breaks
            ComfyUI.
        observer: hears what sampling with this prompt needs.
    """

    def __init__(
        self, ella: ELLA, embeds: LLMEmbeds, static: torch.Tensor, observer: Observer
    ) -> None:
        self.ella = ella
        self.embeds = embeds
        self.static = static
        self.observer = observer

    @property
    def parts(self) -> list["EncodedPrompt"]:
        """The prompts that are mixed."""
        return _parts([self.embeds])

    @property
    def pooled(self) -> "PooledPrompt | None":
        """Its pooled embedding; None if the connector makes none."""
        return None if self.ella.connector.pooled_dim is None else PooledPrompt(self)

    def value(self, timestep: int, device: torch.device) -> torch.Tensor:
        """Return the weighted sum (1, N, C) of the parts' contexts, which the store must have."""
        return _mix(self.ella, self.embeds, timestep, device)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TimestepPrompt":
        """Return the same object: some packs deep-copy conditionings, but this never changes."""
        return self

    def __reduce__(self) -> Any:
        """Refuse pickling with a clear error."""
        raise EllaError(
            "An ELLA conditioning can't be saved or sent to another process, because its tokens "
            "are computed while a sampler runs. Save the prompt's text and encode it there."
        )


@dataclass(frozen=True)
class PooledPrompt:
    """The pooled embedding of a prompt, for every timestep. Equal ones are of the same prompt."""

    prompt: TimestepPrompt

    @property
    def static(self) -> torch.Tensor:
        """(1, E) embedding of the timestep that the prompt's static context is of."""
        return self.value(_STATIC_TIMESTEP, self.prompt.static.device)

    def value(self, timestep: int, device: torch.device) -> torch.Tensor:
        """Return the weighted sum (1, E) of the parts' embeddings, which the store must have."""
        store, parts = self.prompt.ella.store, self.prompt.embeds.parts
        return reduce(
            torch.add, [store.pooled(part, timestep, device) * weight for part, weight in parts]
        )


def make_prompts(
    ella: ELLA, embeds: Sequence[LLMEmbeds], observer: Observer
) -> list[TimestepPrompt]:
    """Make prompts for conditionings; their static contexts take one pass through the connector.

    Raises:
        EllaError: the connector was not trained with this LLM; or it makes as many tokens as a
            prompt has, and prompts of different length are mixed.
    """
    embeds = [read_for(ella, each) for each in embeds]
    for each in embeds:
        trained = ella.connector.metadata.trained_tokens
        # Where a connector has a limit, more tokens are chunks, which it reads one by one.
        if each.tokens > trained and not each.recipe.max_tokens:
            observer.warn_of_length(ella.name, each.tokens, trained)
    parts = _parts(embeds)
    if not ella.store.has(parts, [_STATIC_TIMESTEP]):
        load_models_gpu([ella.patcher])
        ella.store.prepare(parts, [_STATIC_TIMESTEP], ella.patcher.load_device)
        ella.store.settle()
    device = intermediate_device()
    statics = [_mix(ella, each, _STATIC_TIMESTEP, device) for each in embeds]
    return [
        TimestepPrompt(ella, each, static, observer)
        for each, static in zip(embeds, statics, strict=True)
    ]


def _parts(embeds: Iterable[LLMEmbeds]) -> list["EncodedPrompt"]:
    return [prompt for each in embeds for prompt, _ in each.parts]


def _mix(ella: ELLA, embeds: LLMEmbeds, timestep: int, device: torch.device) -> torch.Tensor:
    contexts = [ella.store.context(prompt, timestep, device) for prompt, _ in embeds.parts]
    lengths = {context.shape[1] for context in contexts}
    if len(lengths) > 1 and ella.connector.num_tokens is not None:
        # One prompt has more chunks than another. Attention does not see a repetition of all
        # tokens.
        longest = lcm(*lengths)
        contexts = [context.repeat(1, longest // context.shape[1], 1) for context in contexts]
    elif len(lengths) > 1:
        raise EllaError(
            f"The connector {ella.name} makes as many tokens as a prompt has, so prompts of "
            f"different length can't be mixed: use a strength of 1, and Conditioning (Combine) "
            f"instead of Blend Embeds."
        )
    weighted = [
        context if weight == 1 else context * weight
        for context, (_, weight) in zip(contexts, embeds.parts, strict=True)
    ]
    return reduce(torch.add, weighted)


class CONDTimestepPrompt(CONDRegular):
    """A `TimestepPrompt` inside a conditioning; the wrapper removes it before each model call."""

    cond: TimestepPrompt

    def process_cond(self, *args: Any, **kwargs: Any) -> "CONDTimestepPrompt":
        """Raise an error: ComfyUI calls this only if the wrapper is missing."""
        raise not_prepared()


def not_prepared() -> EllaError:
    """Return the error for a model call that does not know its timestep."""
    return EllaError(
        "The sampler got an ELLA conditioning but a MODEL that was not prepared for it. "
        "Connect the MODEL output of ELLA Timestep Conditioning to the sampler's model input "
        "(LoRA and other model patches may come before or after). If it is connected already, "
        "this sampler node builds a model of its own and loses the preparation, as Tiled KSampler "
        "and Efficiency's Tiled Upscaler do: use another sampler node. For large pictures Ultimate "
        "SD Upscale and Tiled Diffusion work."
    )
