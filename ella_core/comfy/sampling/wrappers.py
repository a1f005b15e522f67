"""Sampling time: the wrappers that give ELLA conditionings the context of each model call.

A wrapper around ComfyUI's `calc_cond_batch` sees every model call with its sigma and all its
conditionings, before ControlNet reads them and before they are batched.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import Any

import torch
from comfy.conds import CONDCrossAttn, CONDRegular
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from .connector import check_model, check_pooled
from .context import Leaf, Place, TimestepContext, current_value, plain, prompts_of, replay
from .prompt import KEY, TimestepPrompt
from .run import ModelCall, current_run, sampling_run

Cond = dict[str, Any]

# Inputs of the U-Net that have values of ours: the context, and SDXL's vector, which begins with
# the pooled embedding.
_INPUTS: dict[str, type[CONDRegular]] = {"c_crossattn": CONDCrossAttn, "y": CONDRegular}


def _outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Leave contexts on the GPU during the run; tell the observers when it is over."""
    conds = chain(*executor.class_obj.conds.values())
    observers = dict.fromkeys(prompt.observer for cond in conds for prompt in _prompts(cond))
    with sampling_run():
        samples = executor(*args, **kwargs)
    for observer in observers:
        observer.show()
    return samples


def _prepare_sampling(
    executor: Callable[..., Any],
    model: ModelPatcher,
    noise_shape: Any,
    conds: dict[str, list[Cond]],
    **options: Any,
) -> Any:
    """Check the conditionings and have ComfyUI load the connectors of all their prompts.

    `options` differ between versions of ComfyUI.

    Raises:
        EllaError: see `check_model` and `check_pooled`.
    """
    for cond in chain(*conds.values()):  # each is the run's own copy
        prompts = _prompts(cond)
        for ella in dict.fromkeys(prompt.ella for prompt in prompts):
            check_model(model.model, ella)
        # Conditioning (Concat) keeps the options of its first conditioning alone.
        models = cond.get("additional_models", [])
        missing = {prompt.ella.patcher for prompt in prompts} - set(models)
        if missing:
            cond["additional_models"] = [*models, *missing]
        if not prompts:
            continue
        check_pooled(model.model, prompts[0].ella, cond.get("pooled_output"))
        for name, leaf in (("cross_attn", prompts[0]), ("pooled_output", prompts[0].pooled)):
            if leaf is not None and isinstance(cond.get(name), torch.Tensor):
                cond[name] = _checked(cond[name], leaf, prompts, model.load_device)
    return executor(model, noise_shape, conds, **options)


def _checked(
    tensor: torch.Tensor, leaf: Leaf, prompts: list[TimestepPrompt], device: torch.device
) -> torch.Tensor:
    """Return a tensor whose edits, if it has any, lead to its values.

    An edit that can't be repeated stays as it is during the whole run, and the user is told, unless
    the tensor is all zero, or a pooled embedding of another model.

    Args:
        tensor: a conditioning's context or pooled embedding.
        leaf: what it is of if it does not say so itself.
        prompts: the conditioning's.
        device: where it is used.
    """
    static = plain(tensor)
    place = Place(static.device)
    is_ours = isinstance(tensor, TimestepContext)
    origin = tensor.origin if isinstance(tensor, TimestepContext) else leaf
    replayed = replay(origin, lambda each: each.static.to(place.device), place)
    if _is_close(static, replayed):
        return TimestepContext.of(static, origin)
    if static.any() and (is_ours or isinstance(leaf, TimestepPrompt)):
        for observer in dict.fromkeys(prompt.observer for prompt in prompts):
            observer.warn_of_change()
    return static.to(device, torch.float32)  # now, and not at each model call


def _is_close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether tensors agree, up to a round trip through fp16."""
    if a.shape != b.shape:
        return False
    return torch.allclose(a.float(), b.float(), rtol=1e-3, atol=1e-4, equal_nan=True)


def _prompts(cond: Cond) -> list[TimestepPrompt]:
    """Return the prompts of a cond before ComfyUI has made the U-Net's input of it."""
    model_conds = cond.get("model_conds", {})
    own = [model_conds[KEY].cond] if KEY in model_conds else []
    tensors = (cond.get("cross_attn"), cond.get("pooled_output"))
    return list(dict.fromkeys([*own, *chain(*map(prompts_of, tensors))]))


def _calc_cond_batch(
    executor: Callable[..., Any],
    model: Any,
    conds: list[list[Cond] | None],
    x_in: torch.Tensor,
    sigma: torch.Tensor,
    model_options: dict[str, Any],
) -> Any:
    """Replace the contexts. ComfyUI calls `sigma`, one per sample, `timestep` here."""
    prompts = [
        prompt
        for cond in chain(*filter(None, conds))
        for tensor in _ours(cond).values()
        for prompt in prompts_of(tensor)
    ]
    with current_run() as run:
        call = ModelCall(run, model, sigma, x_in.device, model_options)
        if prompts:
            call.prepare(prompts)
        conds = [group and [_at(call, cond, len(sigma)) for cond in group] for group in conds]
        with _set(current_value, call.value_in_layer):
            return executor(model, conds, x_in, sigma, model_options)


def _ours(cond: Cond) -> dict[str, TimestepContext]:
    """Return the inputs of a cond for the U-Net that are computed at each call."""
    inputs = {k: v.cond for k, v in cond["model_conds"].items() if k in _INPUTS}
    return {k: v for k, v in inputs.items() if isinstance(v, TimestepContext)}


def _at(call: ModelCall, cond: Cond, samples: int) -> Cond:
    """Return `cond` with the values of this call; the original stays as it is."""
    ours, model_conds = _ours(cond), cond["model_conds"]
    if not ours and KEY not in model_conds:
        return cond
    values = {
        name: _INPUTS[name](call.value(tensor.origin, max(len(tensor), samples)).float())
        for name, tensor in ours.items()
    }
    kept = {name: value for name, value in model_conds.items() if name != KEY}
    return {**cond, "model_conds": {**kept, **values}}


@contextmanager
def _set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


#: All that `patch_model` adds to a MODEL.
WRAPPERS: dict[str, Callable[..., Any]] = {
    WrappersMP.OUTER_SAMPLE: _outer_sample,
    WrappersMP.PREPARE_SAMPLING: _prepare_sampling,
    WrappersMP.CALC_COND_BATCH: _calc_cond_batch,
}
