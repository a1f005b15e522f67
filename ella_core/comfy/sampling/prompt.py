"""A prompt inside a CONDITIONING: its tokens at any timestep, and what other nodes did to them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from comfy.conds import CONDRegular
from comfy.model_management import intermediate_device, load_models_gpu

from ...errors import EllaError
from ..editor.report import Report
from ..llm.model import LLMEmbeds
from .connector import ELLA, check_features, warn_of_length

if TYPE_CHECKING:
    from ...text_encoders import EncodedPrompt

_PLACEHOLDER_TIMESTEP = 499


class TimestepPrompt:
    """One prompt whose tokens depend on the timestep.

    Attributes:
        ella: the connector that makes them.
        embeds: what it makes them of.
        placeholder: (1, N, W) tokens of a middle timestep, what the CONDITIONING holds. Other
            nodes see and edit these, so they also tell what was done to them. Without a note of
            this prompt: a reference cycle would leave the connector to the garbage collector,
            and ComfyUI can't bear that a model dies while it unloads others.
        report: what the node that made this shows after a run.
    """

    def __init__(
        self, ella: ELLA, embeds: LLMEmbeds, placeholder: torch.Tensor, report: Report
    ) -> None:
        self.ella = ella
        self.embeds = embeds
        self.report = report
        self.placeholder = placeholder

    @property
    def parts(self) -> list["EncodedPrompt"]:
        """The prompts that are mixed."""
        return [prompt for prompt, _ in self.embeds.parts]

    def context(self, timesteps: Sequence[int], device: torch.device) -> torch.Tensor:
        """Return the weighted sum of the parts' contexts, which the store must have.

        Returns:
            (1, N, C) float32 if all timesteps are the same, else (T, N, C).

        Raises:
            EllaError: the parts' contexts differ in length.
        """
        return mixed_context(self.ella, self.embeds, timesteps).to(device)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TimestepPrompt":
        """Some packs deep-copy conditionings; nothing in here ever needs a second copy."""
        return self

    def __reduce__(self) -> Any:
        """Asked for by what pickles a conditioning, to save it or to send it elsewhere."""
        raise EllaError(
            "An ELLA conditioning can't be saved or sent to another process, for its tokens are "
            "computed while a sampler runs. Save the prompt's text and encode it there."
        )


def mixed_context(ella: ELLA, embeds: LLMEmbeds, timesteps: Sequence[int]) -> torch.Tensor:
    """See `TimestepPrompt.context`."""
    contexts = [ella.store.context(prompt, timesteps) for prompt, _ in embeds.parts]
    if len({context.shape for context in contexts}) > 1:
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


def make_prompts(ella: ELLA, embeds: Sequence[LLMEmbeds], report: Report) -> list[TimestepPrompt]:
    """Prompts for conditionings; their placeholders take one pass through the connector.

    Raises:
        EllaError: the LLM is not the connector's.
    """
    for each in embeds:
        check_features(ella, each)
        warn_of_length(ella, each)
    parts = [prompt for each in embeds for prompt, _ in each.parts]
    if not ella.store.has(parts, [_PLACEHOLDER_TIMESTEP]):
        load_models_gpu([ella.patcher])
        ella.store.prepare(parts, [_PLACEHOLDER_TIMESTEP], ella.patcher.load_device)
    device = intermediate_device()
    placeholders = [  # other nodes may edit these, so they are no views of what the connector keeps
        mixed_context(ella, each, [_PLACEHOLDER_TIMESTEP]).to(device, copy=True) for each in embeds
    ]
    return [
        TimestepPrompt(ella, each, placeholder, report)
        for each, placeholder in zip(embeds, placeholders, strict=True)
    ]


class TimestepTokens(torch.Tensor):
    """The tensor of a CONDITIONING, which remembers its prompts whatever is done to it.

    Conditioning (Concat) and ConditioningAverage keep the options of their first conditioning
    alone. Where ELLA comes second, this tensor is the only thing of ours that is left.
    """

    prompts: tuple[TimestepPrompt, ...]

    @classmethod
    def of(cls, tokens: torch.Tensor, prompts: Iterable[TimestepPrompt]) -> "TimestepTokens":
        """`tokens` with a note of the prompts that stand in it."""
        with torch._C.DisableTorchFunctionSubclass():
            noted = tokens.as_subclass(cls)
        noted.prompts = tuple(dict.fromkeys(prompts))
        return noted

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """What still has the shape of tokens remembers the prompts it was made of."""
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        sources = [source for source in _flat([*args, kwargs or {}]) if isinstance(source, cls)]
        is_tokens = isinstance(result, torch.Tensor) and result.is_floating_point()
        if not is_tokens or result.shape[2:] != sources[0].shape[2:]:
            return result
        return cls.of(result, (prompt for source in sources for prompt in source.prompts))

    def __deepcopy__(self, memo: dict[int, Any]) -> "TimestepTokens":
        return TimestepTokens.of(self.clone(), self.prompts)


class CONDTimestepPrompt(CONDRegular):
    """A `TimestepPrompt` inside a conditioning; the wrapper takes it out before each call."""

    cond: TimestepPrompt

    def process_cond(self, *args: Any, **kwargs: Any) -> "CONDTimestepPrompt":
        """Reached only when the wrapper is not there."""
        raise EllaError(
            "The sampler got an ELLA conditioning but a MODEL that was not prepared for it. "
            "Connect the MODEL output of ELLA Timestep Conditioning to the sampler's model input "
            "(LoRA and other model patches may come before or after)."
        )


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        elif isinstance(value, dict):
            yield from _flat(value.values())
        else:
            yield value


Places = dict[int, TimestepPrompt]  # where a prompt's tokens begin in a tensor -> the prompt


def plain(tokens: torch.Tensor) -> torch.Tensor:
    """The same tensor without a memory."""
    with torch._C.DisableTorchFunctionSubclass():
        return tokens.as_subclass(torch.Tensor)


def prompts_in(tokens: torch.Tensor | None) -> tuple[TimestepPrompt, ...]:
    """The prompts that a tensor was made of, as far as it knows."""
    return tokens.prompts if isinstance(tokens, TimestepTokens) else ()


def find(tokens: torch.Tensor, prompts: Iterable[TimestepPrompt]) -> Places:
    """Where in a cond's tensor (B, N', W) the placeholders of `prompts` stand unchanged.

    A prompt that is not there any more is warned about, unless the tensor was zeroed out.
    """
    places: Places = {}
    static = plain(tokens)
    for prompt in prompts:
        if _is_same(static, prompt.placeholder):
            return {0: prompt}
        sought = prompt.placeholder.to(static)
        n = sought.shape[1]
        begins = (static[0, : max(0, static.shape[1] - n + 1)] == sought[0, 0]).all(dim=-1)
        found = [
            start
            for start in begins.nonzero().flatten().tolist()
            if torch.equal(static[:, start : start + n], sought.expand(len(static), -1, -1))
        ]
        places |= dict.fromkeys(found, prompt)
        if not found and static.any():
            prompt.report.warn_of_change()
    return places


def _is_same(tokens: torch.Tensor, placeholder: torch.Tensor) -> bool:
    """Whether they are one tensor in memory."""
    return tokens.data_ptr() == placeholder.data_ptr() and tokens.shape == placeholder.shape


def fill(
    tokens: torch.Tensor, places: Places, timesteps: Sequence[int], device: torch.device
) -> torch.Tensor:
    """A cond's tensor (B, N', W) with the tokens of `timesteps` where `find` found prompts.

    The rest (CLIP's tokens, what another node has changed) stays as it is.

    Returns:
        (1 or B or len(timesteps), N', W) float32 on `device`.
    """
    tokens = plain(tokens)
    parts, end = [], 0
    for start, prompt in sorted(places.items()):
        if start > end:
            parts.append(tokens[:, end:start])
        parts.append(prompt.context(timesteps, device))
        end = start + prompt.placeholder.shape[1]
    if end < tokens.shape[1]:
        parts.append(tokens[:, end:])
    parts = [part.to(device, torch.float32) for part in parts]
    if len(parts) == 1:
        return parts[0]
    batch = max(map(len, parts))
    return torch.cat([part.expand(batch, -1, -1) for part in parts], dim=1)
