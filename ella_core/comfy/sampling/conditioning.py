"""CONDITIONING whose tokens are those of the sigma at hand (arXiv 2403.05135).

A wrapper around ComfyUI's `calc_cond_batch` sees every model call with its sigma and all its
conditionings, before ControlNet reads them and before they are batched. It replaces the tokens
of those that came from ELLA. The prompt rides inside `model_conds`: that is the only part of a
conditioning that ComfyUI replaces when it copies one prompt's area to another.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from comfy.conds import CONDCrossAttn
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ...errors import EllaError
from ..editor.report import Report
from ..llm.model import LLMEmbeds
from .connector import ELLA
from .prompt import (
    CONDTimestepPrompt,
    Places,
    TimestepPrompt,
    TimestepTokens,
    fill,
    find,
    make_prompts,
    prompts_in,
)
from .timesteps import sigma_to_timestep

Cond = dict[str, Any]
Conditioning = list[list[Any]]  # ComfyUI's: pairs of tokens (1, N, W) and options

KEY = "ella"  # of the wrappers on MODEL and of the prompt in model_conds


def patch_model(model: ModelPatcher) -> ModelPatcher:
    """A clone of MODEL that recomputes ELLA conditionings at each call's sigma.

    It holds no weights, leaves other conditionings alone and may be applied more than once.
    """
    patched = model.clone()
    for kind, wrapper in WRAPPERS.items():
        patched.remove_wrappers_with_key(kind, KEY)
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    return patched


def make_conditioning(
    ella: ELLA,
    embeds: LLMEmbeds,
    clip: Conditioning | None = None,
    node_id: str | None = None,
) -> Conditioning:
    """CONDITIONING for one prompt, or for one prompt beside CLIP's tokens.

    Args:
        ella: the connector.
        embeds: what the LLM has read.
        clip: conditionings whose tokens follow ELLA's and whose options (areas, hooks, ranges)
            are kept, one by one; None for ELLA alone.
        node_id: the node that shows, after a run, what the connector had to compute.

    Raises:
        EllaError: the LLM is not the connector's.
    """
    (prompt,) = make_prompts(ella, [embeds], Report(node_id, [("", embeds)]))
    return _make_conditioning(prompt, clip)


def _make_conditioning(prompt: TimestepPrompt, clip: Conditioning | None) -> Conditioning:
    if clip is None:
        return [[TimestepTokens.of(prompt.placeholder, [prompt]), _options({}, prompt)]]
    for tokens, options in clip:
        if KEY in options.get("model_conds", {}) or prompts_in(tokens):
            raise EllaError(
                "A clip input got an ELLA conditioning. Connect CLIP Text Encode to it; to average "
                "two prompts use ELLA Blend Embeds, to use both Conditioning (Combine)."
            )
    return [[_beside(prompt, tokens), _options(options, prompt)] for tokens, options in clip]


def _options(options: Cond, prompt: TimestepPrompt) -> Cond:
    """`options` of a conditioning with `prompt` riding in them."""
    return {
        **options,
        "model_conds": {**options.get("model_conds", {}), KEY: CONDTimestepPrompt(prompt)},
        # ComfyUI loads these and counts their memory beside the U-Net's.
        "additional_models": [*options.get("additional_models", []), prompt.ella.patcher],
    }


def make_pair(
    ella: ELLA,
    embeds: tuple[LLMEmbeds, LLMEmbeds],
    clip: tuple[Conditioning | None, Conditioning | None],
    node_id: str | None = None,
) -> tuple[Conditioning, Conditioning]:
    """Positive and negative, beside CLIP's tokens on both sides or on none.

    The arguments are those of `make_conditioning`.

    Raises:
        EllaError: two LLMs have read the prompts; or CLIP on one side only: the two would differ
            in length, and the U-Net would be called once for each.
    """
    embeds[0].check_same_llm(embeds[1])
    if (clip[0] is None) != (clip[1] is None):
        given, absent = ("clip_positive", "clip_negative")[:: 1 if clip[1] is None else -1]
        raise EllaError(
            f"{given} is connected and {absent} is not. Connect both, so that positive and "
            f"negative have the same number of tokens; a CLIP Text Encode with empty text will do."
        )
    report = Report(node_id, zip(("positive", "negative"), embeds, strict=True))
    positive, negative = map(_make_conditioning, make_prompts(ella, embeds, report), clip)
    return positive, negative


def _beside(prompt: TimestepPrompt, tokens: torch.Tensor) -> torch.Tensor:
    placeholder = prompt.placeholder
    if tokens.shape[-1] != placeholder.shape[-1]:
        raise EllaError(
            f"CLIP's tokens are {tokens.shape[-1]} wide, ELLA's {placeholder.shape[-1]}. Connect "
            f"CLIP Text Encode of the same Stable Diffusion model as ELLA conditions."
        )
    both = [placeholder.expand(len(tokens), -1, -1), tokens.to(placeholder)]
    return TimestepTokens.of(torch.cat(both, dim=1), [prompt])


def check_model(model: Any, ella: ELLA) -> None:
    """Refuse a model (what a MODEL patches) that the connector was not made for.

    Raises:
        EllaError: not a U-Net with cross-attention, or one of another width.
    """
    expected = ella.connector.context_dim
    wanted = "a Stable Diffusion 1.5 model" if expected == 768 else f"a U-Net of width {expected}"
    unet = getattr(model.diffusion_model, "_orig_mod", model.diffusion_model)  # torch.compile's
    if not isinstance(unet, UNetModel):
        raise EllaError(
            f"The MODEL is a {type(model).__name__}, which is no U-Net with cross-attention: "
            f"ELLA can't condition it. Load {wanted} in Load Checkpoint."
        )
    found = model.model_config.unet_config.get("context_dim")
    if found != expected:
        raise EllaError(
            f"The MODEL ({type(model).__name__}) reads text {found} wide, but the connector "
            f"{ella.name} makes tokens {expected} wide. Load {wanted} in Load Checkpoint, or a "
            f"connector of width {found} in Load ELLA."
        )


def _outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Have the conditioning nodes show what the run needed, once it is over."""
    conds = chain(*executor.class_obj.conds.values())
    reports = dict.fromkeys(prompt.report for cond in conds for prompt in _prompts(cond))
    samples = executor(*args, **kwargs)
    for report in reports:
        report.show()
    return samples


def _prompts(cond: Cond) -> list[TimestepPrompt]:
    """Of a cond before ComfyUI has made the U-Net's input of it."""
    model_conds = cond.get("model_conds", {})
    own = [model_conds[KEY].cond] if KEY in model_conds else []
    return [*own, *prompts_in(cond.get("cross_attn"))]


def _prepare_sampling(
    executor: Callable[..., Any],
    model: ModelPatcher,
    noise_shape: Any,
    conds: dict[str, list[Cond]],
    **options: Any,
) -> Any:
    """Have ComfyUI load the connectors of prompts that Conditioning (Concat) put second, too.

    `options` differ between versions of ComfyUI.

    Raises:
        EllaError: see `check_model`.
    """
    for ella in {prompt.ella for cond in chain(*conds.values()) for prompt in _prompts(cond)}:
        check_model(model.model, ella)
    for cond in chain(*conds.values()):
        models = cond.get("additional_models", [])
        patchers = [prompt.ella.patcher for prompt in prompts_in(cond.get("cross_attn"))]
        missing = [patcher for patcher in patchers if patcher not in models]
        if missing:
            cond["additional_models"] = [*models, *missing]  # `cond` is the run's own copy
    return executor(model, noise_shape, conds, **options)


def _calc_cond_batch(
    executor: Callable[..., Any],
    model: Any,
    conds: list[list[Cond] | None],
    x_in: torch.Tensor,
    sigma: torch.Tensor,
    model_options: dict[str, Any],
) -> Any:
    """The wrapper. `sigma` is what ComfyUI calls `timestep` here, one per sample."""
    places = {id(c): _find(c) for c in chain(*filter(None, conds)) if _is_ella(c)}
    if places:
        timesteps = sigma_to_timestep(model.model_sampling, sigma)
        prompts = list(dict.fromkeys(chain(*(found.values() for found in places.values()))))
        _prepare(prompts, timesteps, model, x_in.device, model_options)
        conds = [
            group and [_at(c, places.get(id(c)), timesteps, x_in.device) for c in group]
            for group in conds
        ]
    return executor(model, conds, x_in, sigma, model_options)


def _tokens(cond: Cond) -> torch.Tensor:
    tokens: torch.Tensor = cond["model_conds"]["c_crossattn"].cond
    return tokens


def _is_ella(cond: Cond) -> bool:
    """Also a conditioning of another's, to which Conditioning (Concat) has appended ELLA's."""
    model_conds = cond["model_conds"]
    return "c_crossattn" in model_conds and (KEY in model_conds or bool(prompts_in(_tokens(cond))))


def _find(cond: Cond) -> Places:
    own = [cond["model_conds"][KEY].cond] if KEY in cond["model_conds"] else []
    tokens = _tokens(cond)
    return find(tokens, dict.fromkeys([*own, *prompts_in(tokens)]))


def _prepare(
    prompts: list[TimestepPrompt],
    timesteps: list[int],
    model: Any,
    device: torch.device,
    model_options: dict[str, Any],
) -> None:
    """Have the tokens ready: at the first call of a run, for its whole schedule."""
    lacking: dict[ELLA, list[TimestepPrompt]] = {}
    for prompt in prompts:
        if not prompt.ella.store.has(prompt.parts, timesteps):
            lacking.setdefault(prompt.ella, []).append(prompt)
    if not lacking:
        return
    schedule = []
    sigmas = model_options.get("transformer_options", {}).get("sample_sigmas")
    if sigmas is not None:  # a guider may call the model outside a run
        schedule = sigma_to_timestep(model.model_sampling, sigmas[:-1])  # it ends at the last one
    for ella, together in lacking.items():
        parts = [part for prompt in together for part in prompt.parts]
        reports = {prompt.report for prompt in together}
        # A sigma between two steps is computed too fast for a bar.
        watching = [] if ella.store.has(parts, schedule) else reports
        passes = ella.store.prepare(
            parts, [*schedule, *timesteps], device, partial(_show_progress, watching)
        )
        for report in reports:
            report.add(passes)


def _show_progress(reports: Iterable[Report], done: int, of: int) -> None:
    for report in reports:
        report.progress(done, of)
    throw_exception_if_processing_interrupted()


def _at(cond: Cond, places: Places | None, timesteps: Sequence[int], device: torch.device) -> Cond:
    """`cond` with the tokens of `timesteps`; the original is left as it is."""
    if places is None:
        return cond
    model_conds = {key: value for key, value in cond["model_conds"].items() if key != KEY}
    model_conds["c_crossattn"] = CONDCrossAttn(fill(_tokens(cond), places, timesteps, device))
    return {**cond, "model_conds": model_conds}


#: All that `patch_model` adds to a MODEL.
WRAPPERS: dict[str, Callable[..., Any]] = {
    WrappersMP.OUTER_SAMPLE: _outer_sample,
    WrappersMP.PREPARE_SAMPLING: _prepare_sampling,
    WrappersMP.CALC_COND_BATCH: _calc_cond_batch,
}
