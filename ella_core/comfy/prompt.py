"""One prompt inside a CONDITIONING: its tokens at any timestep, and what other nodes did to it."""

import logging
from collections import OrderedDict
from typing import Any

import torch
from comfy.conds import CONDRegular
from comfy.model_management import load_models_gpu

from ..errors import EllaError
from .connector import ELLA, check_features
from .llm import LLMEmbeds

logger = logging.getLogger("ella")

_PLACEHOLDER_TIMESTEP = 499
_MAX_KEPT = 256  # results of one prompt: 196 kB each for the released connector


class TimestepPrompt:
    """One prompt whose tokens depend on the timestep. Keeps what it has computed.

    Attributes:
        ella: the connector that makes them.
        placeholder: (1, N, W) tokens of a middle timestep, the CONDITIONING's own tensor. Other
            nodes see and edit this one, so it also tells what they did to it.
    """

    def __init__(self, ella: ELLA, embeds: LLMEmbeds) -> None:
        check_features(ella, embeds)
        self.ella = ella
        self._embeds = embeds
        self._kept: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._warned = False
        load_models_gpu([ella.patcher])
        self.compute([_PLACEHOLDER_TIMESTEP], ella.patcher.load_device)
        self.placeholder = self._kept[_PLACEHOLDER_TIMESTEP]

    def has(self, timesteps: list[int]) -> bool:
        """Whether the tokens of all `timesteps` are there."""
        return self._kept.keys() >= set(self._keys(timesteps))

    def compute(self, timesteps: list[int], device: torch.device) -> None:
        """Compute on `device` and keep what is not there yet, in one pass."""
        needed = dict.fromkeys(self._keys(timesteps))
        missing = [t for t in needed if t not in self._kept]
        for t, tokens in zip(missing, self.ella.tokens(self._embeds, missing, device), strict=True):
            self._kept[t] = tokens[None].clone()  # a view would keep the whole pass alive
        for t in needed:
            self._kept.move_to_end(t)
        while len(self._kept) > max(_MAX_KEPT, len(needed)):
            self._kept.popitem(last=False)

    def tokens(self, timesteps: list[int], device: torch.device) -> torch.Tensor:
        """The prompt's tokens at `timesteps`, which `compute` has seen; one per sample.

        Returns:
            (1, N, W) float32 on `device` if all are the same, else (len(timesteps), N, W).
        """
        keys = self._keys(timesteps)
        keys = keys[:1] if len(set(keys)) == 1 else keys
        return torch.cat([self._kept[key] for key in keys]).to(device)

    def _keys(self, timesteps: list[int]) -> list[int]:
        """What results are kept by: a connector that knows no timestep has one for all."""
        if self.ella.connector.timestep_aware:
            return timesteps
        return [_PLACEHOLDER_TIMESTEP] * len(timesteps)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TimestepPrompt":
        """Some packs deep-copy conditionings; nothing in here ever needs a second copy."""
        return self

    def replace(self, static: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Put `tokens` where the placeholder stands in `static`, a cond's tensor (1, N', W)."""
        placeholder, n = self.placeholder, self.placeholder.shape[1]
        if static is placeholder:
            return tokens
        static = static.to(placeholder.device)
        if torch.equal(static[:, :n], placeholder.expand(len(static), -1, -1)):
            rest = static[:, n:].to(tokens)  # CLIP's, or what Conditioning (Concat) appended
            batch = max(len(tokens), len(rest))
            return torch.cat([t.expand(batch, -1, -1) for t in (tokens, rest)], dim=1)
        if static.any() and not self._warned:  # not Conditioning Zero Out
            self._warned = True
            logger.warning(
                "A node between ELLA and the sampler changed the tokens of a conditioning "
                "(Conditioning (Average) does). They are used as they are and no longer follow "
                "the timestep. To average prompts, use ELLA Blend Embeds instead."
            )
        return static.to(tokens)  # on one device, or ComfyUI would not batch it with the others


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
