"""CONDITIONING whose tokens are those of the sigma at hand (arXiv 2403.05135, section 3.1).

A wrapper around ComfyUI's `calc_cond_batch` sees every model call with its sigma and all its
conditionings, before ControlNet reads them and before they are batched. It replaces the tokens
of those that came from ELLA. The prompt rides inside `model_conds`: that is the only part of a
conditioning that ComfyUI replaces when it copies one prompt's area to another.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from comfy.conds import CONDCrossAttn, CONDRegular
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_management import load_models_gpu
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ..errors import EllaError
from .connector import ELLA, check_features
from .llm import LLMEmbeds
from .timesteps import sigma_to_timestep

logger = logging.getLogger("ella")

Cond = dict[str, Any]

_KEY = "ella"  # of the wrapper on MODEL and of the prompt in model_conds
_PLACEHOLDER_TIMESTEP = 499
_MAX_KEPT = 256  # results of one prompt: 196 kB each for the released connector


class TimestepPrompt:
    """One prompt whose tokens depend on the timestep. Keeps what it has computed.

    Attributes:
        placeholder: (1, N, W) tokens of a middle timestep, the CONDITIONING's own tensor. Other
            nodes see and edit this one, so it also tells what they did to it.
    """

    def __init__(self, ella: ELLA, embeds: LLMEmbeds) -> None:
        check_features(ella, embeds)
        self._ella = ella
        self._features = embeds.features
        self._kept: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._warned = False
        load_models_gpu([ella.patcher])
        self.compute([_PLACEHOLDER_TIMESTEP], ella.patcher.load_device)
        self.placeholder = self._kept[_PLACEHOLDER_TIMESTEP]

    def has(self, timesteps: list[int]) -> bool:
        """Whether the tokens of all `timesteps` are there."""
        return self._kept.keys() >= set(timesteps)

    def compute(self, timesteps: list[int], device: torch.device) -> None:
        """Compute on `device` and keep what is not there yet, in one pass."""
        needed = dict.fromkeys(timesteps)
        missing = [t for t in needed if t not in self._kept]
        for t, tokens in zip(
            missing, self._ella.tokens(self._features, missing, device), strict=True
        ):
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
        distinct = timesteps[:1] if len(set(timesteps)) == 1 else timesteps
        return torch.cat([self._kept[t] for t in distinct]).to(device)

    def replace(self, static: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Put `tokens` where the placeholder stands in `static`, a cond's tensor (1, N', W)."""
        placeholder, n = self.placeholder, self.placeholder.shape[1]
        if static is placeholder:
            return tokens
        static = static.to(placeholder.device)
        if torch.equal(static, placeholder):
            return tokens
        if torch.equal(static[:, :n], placeholder):  # Conditioning (Concat) appended to it
            rest = static[:, n:].to(tokens)
            return torch.cat([tokens, rest.expand(len(tokens), -1, -1)], dim=1)
        if static.any() and not self._warned:  # not Conditioning Zero Out
            self._warned = True
            logger.warning(
                "A node between ELLA and the sampler changed the tokens of a conditioning "
                "(Conditioning (Average) does). They are used as they are and no longer follow "
                "the timestep. To mix prompts, connect each ELLA conditioning to Conditioning "
                "(Combine) instead."
            )
        return static


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


def patch_model(model: ModelPatcher) -> ModelPatcher:
    """A clone of MODEL that recomputes ELLA conditionings at each call's sigma.

    It holds no weights, leaves other conditionings alone and may be applied more than once.
    """
    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.CALC_COND_BATCH, _KEY)
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, _KEY, _calc_cond_batch)
    return patched


def make_conditioning(ella: ELLA, embeds: LLMEmbeds) -> list[list[Any]]:
    """CONDITIONING for one prompt.

    Raises:
        EllaError: the LLM is not the connector's.
    """
    prompt = TimestepPrompt(ella, embeds)
    options = {
        "model_conds": {_KEY: CONDTimestepPrompt(prompt)},
        "additional_models": [ella.patcher],  # ComfyUI loads and counts it beside the U-Net
    }
    return [[prompt.placeholder, options]]


def check_model(model: ModelPatcher, ella: ELLA) -> None:
    """Refuse a MODEL that the connector was not made for.

    Raises:
        EllaError: not a U-Net with cross-attention, or one of another width.
    """
    expected = ella.connector.width
    wanted = "a Stable Diffusion 1.5 model" if expected == 768 else f"a U-Net of width {expected}"
    if not isinstance(model.model.diffusion_model, UNetModel):
        raise EllaError(
            f"The MODEL is a {type(model.model).__name__}, which is no U-Net with cross-attention: "
            f"ELLA can't condition it. Load {wanted} in Load Checkpoint."
        )
    found = model.model.model_config.unet_config.get("context_dim")
    if found != expected:
        raise EllaError(
            f"The MODEL ({type(model.model).__name__}) reads text {found} wide, but the connector "
            f"{ella.name} makes tokens {expected} wide. Load {wanted} in Load Checkpoint, or a "
            f"connector of width {found} in Load ELLA."
        )


def _calc_cond_batch(
    executor: Callable[..., Any],
    model: Any,
    conds: list[list[Cond] | None],
    x_in: torch.Tensor,
    sigma: torch.Tensor,
    model_options: dict[str, Any],
) -> Any:
    """The wrapper. `sigma` is what ComfyUI calls `timestep` here, one per sample."""
    prompts = {c["model_conds"][_KEY].cond for c in chain(*filter(None, conds)) if _is_ella(c)}
    if prompts:
        timesteps = sigma_to_timestep(model.model_sampling, sigma)
        _prepare(prompts, timesteps, model, x_in.device, model_options)
        conds = [group and [_at(c, timesteps, x_in.device) for c in group] for group in conds]
    return executor(model, conds, x_in, sigma, model_options)


def _is_ella(cond: Cond) -> bool:
    return _KEY in cond["model_conds"]


def _prepare(
    prompts: set[TimestepPrompt],
    timesteps: list[int],
    model: Any,
    device: torch.device,
    model_options: dict[str, Any],
) -> None:
    """Have each prompt's tokens ready: at the first call of a run, for its whole schedule."""
    lacking = [prompt for prompt in prompts if not prompt.has(timesteps)]
    if not lacking:
        return
    schedule = []
    sigmas = model_options.get("transformer_options", {}).get("sample_sigmas")
    if sigmas is not None:  # a guider may call the model outside a run
        schedule = sigma_to_timestep(model.model_sampling, sigmas[:-1])  # it ends at the last one
    for prompt in lacking:
        prompt.compute([*schedule, *timesteps], device)


def _at(cond: Cond, timesteps: list[int], device: torch.device) -> Cond:
    """`cond` with the tokens of `timesteps`; the original is left as it is."""
    if not _is_ella(cond):
        return cond
    model_conds = dict(cond["model_conds"])
    prompt: TimestepPrompt = model_conds.pop(_KEY).cond
    tokens = prompt.replace(model_conds["c_crossattn"].cond, prompt.tokens(timesteps, device))
    model_conds["c_crossattn"] = CONDCrossAttn(tokens)
    return {**cond, "model_conds": model_conds}
