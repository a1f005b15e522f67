"""Graph time: CONDITIONINGs that carry a prompt, and MODELs that know what to do with them.

The prompt rides inside `model_conds` (arXiv 2403.05135 has a context for every timestep). That is
the only part of a conditioning that ComfyUI replaces when it copies one prompt's area to another.
"""

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher

from ...errors import EllaError
from ..llm.embeds import LLMEmbeds
from .connector import ELLA
from .context import TimestepContext, prompts_of
from .prompt import KEY, CONDTimestepPrompt, Observer, TimestepPrompt, make_prompts
from .wrappers import WRAPPERS

Conditioning = list[list[Any]]  # ComfyUI's: pairs of context (B, N, C) and options


def patch_model(model: ModelPatcher) -> ModelPatcher:
    """Return a clone of MODEL that recomputes ELLA conditionings at each call's sigma.

    The patch holds no weights, leaves other conditionings alone and may be applied repeatedly.
    """
    patched = model.clone()
    for kind, wrapper in WRAPPERS.items():
        patched.remove_wrappers_with_key(kind, KEY)
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    return patched


def make_conditioning(
    ella: ELLA, embeds: LLMEmbeds, clip: Conditioning | None, observer: Observer
) -> Conditioning:
    """Return CONDITIONING for one prompt, alone or beside CLIP's context.

    Args:
        ella: the connector.
        embeds: the prompt as the LLM read it.
        clip: conditionings whose contexts follow ELLA's and whose options (areas, hooks, ranges)
            are kept, one by one; None for ELLA alone.
        observer: hears what sampling with this conditioning needs.

    Raises:
        EllaError: see `make_prompts`; or `clip` is ELLA's, or of another width.
    """
    (prompt,) = make_prompts(ella, [embeds], observer)
    return _make_conditioning(prompt, clip)


def make_pair(
    ella: ELLA,
    embeds: tuple[LLMEmbeds, LLMEmbeds],
    clip: tuple[Conditioning | None, Conditioning | None],
    observer: Observer,
) -> tuple[Conditioning, Conditioning]:
    """Return positive and negative, beside CLIP's context on both sides or on none.

    The arguments are those of `make_conditioning`.

    Raises:
        EllaError: see `make_conditioning`; or CLIP is on one side only: the two would differ in
            length, and the U-Net would be called once for each.
    """
    if (clip[0] is None) != (clip[1] is None):
        given, absent = ("clip_positive", "clip_negative")[:: 1 if clip[1] is None else -1]
        raise EllaError(
            f"{given} is connected and {absent} is not. Connect both, so that positive and "
            f"negative have the same number of tokens; a CLIP Text Encode with empty text will do."
        )
    positive, negative = map(_make_conditioning, make_prompts(ella, embeds, observer), clip)
    return positive, negative


def _make_conditioning(prompt: TimestepPrompt, clip: Conditioning | None) -> Conditioning:
    # A copy: other nodes may write into it.
    context = TimestepContext.of(prompt.static.clone(), prompt)
    if clip is None:
        return [[context, _options(prompt, {})]]
    for clip_context, options in clip:
        if KEY in options.get("model_conds", {}) or prompts_of(clip_context):
            raise EllaError(
                "A clip input got an ELLA conditioning. Connect CLIP Text Encode to it; to average "
                "two prompts use ELLA Blend Embeds, to use both Conditioning (Combine)."
            )
    return [
        [_beside(context, clip_context), _options(prompt, options)]
        for clip_context, options in clip
    ]


def _beside(context: torch.Tensor, clip_context: torch.Tensor) -> torch.Tensor:
    """Return (B, N + N', C): ELLA's context, then CLIP's (B, N', C)."""
    if clip_context.shape[-1] != context.shape[-1]:
        raise EllaError(
            f"CLIP's tokens are {clip_context.shape[-1]} wide, ELLA's {context.shape[-1]}. Connect "
            f"CLIP Text Encode of the same Stable Diffusion model as ELLA conditions."
        )
    clip_context = clip_context.to(context.device, context.dtype)
    return torch.cat([context.expand(len(clip_context), -1, -1), clip_context], dim=1)


def _options(prompt: TimestepPrompt, options: dict[str, Any]) -> dict[str, Any]:
    """Return `options` of a conditioning with `prompt` riding in them."""
    # CLIP's conditionings have one, and some nodes ask for it. SD1.5's U-Net does not.
    pooled = {"pooled_output": torch.zeros(1, prompt.static.shape[-1]), **options}
    if prompt.pooled is not None:
        # A copy: other nodes may write into it.
        value = TimestepContext.of(prompt.pooled.static.clone(), prompt.pooled)
        pooled["pooled_output"] = value
    return {
        **pooled,
        "model_conds": {**options.get("model_conds", {}), KEY: CONDTimestepPrompt(prompt)},
        # ComfyUI loads these and counts their memory beside the U-Net's.
        "additional_models": [*options.get("additional_models", []), prompt.ella.patcher],
    }
