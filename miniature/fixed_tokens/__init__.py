"""A ComfyUI node pack with the two ways that ELLA Nodes doesn't go, to be compared with its own."""

from typing import Any

import comfy.samplers
import torch
from comfy.model_management import load_models_gpu

FROZEN_AT = 499


class MiniatureFixedTokens:
    """Makes an ordinary CONDITIONING of tokens that are computed before sampling.

    `frozen` has the tokens of one timestep. `windows` has, as TencentQQGYLab/ComfyUI-ELLA, the
    tokens of each step of a schedule for an equal share of the sampling in percent.
    """

    CATEGORY = "ELLA"
    FUNCTION = "make"
    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        inputs = {
            "model": ("MODEL",),
            "ella": ("ELLA",),
            "embeds": ("ELLA_LLM_EMBEDS",),
            "way": (["frozen", "windows"],),
            "scheduler": (comfy.samplers.SCHEDULER_NAMES,),
            "steps": ("INT", {}),
            "denoise": ("FLOAT", {}),
        }
        return {"required": inputs}

    def make(
        self,
        model: Any,
        ella: Any,
        embeds: Any,
        way: str,
        scheduler: str,
        steps: int,
        denoise: float,
    ) -> tuple[list[Any]]:
        timesteps = [FROZEN_AT] if way == "frozen" else _timesteps(model, scheduler, steps, denoise)
        ((prompt, _),) = embeds.parts
        load_models_gpu([ella.patcher])
        ella.store.prepare([prompt], timesteps, ella.patcher.load_device)
        ella.store.settle()
        shares = torch.linspace(0, 1, len(timesteps) + 1).tolist()
        return (
            [
                [ella.store.context(prompt, t), {"start_percent": start, "end_percent": end}]
                for t, start, end in zip(timesteps, shares[:-1], shares[1:], strict=True)
            ],
        )


def _timesteps(model: Any, scheduler: str, steps: int, denoise: float) -> list[int]:
    """Return the timestep of each step, as a sampler with these settings takes them."""
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, int(steps / denoise))
    timesteps: list[int] = sampling.timestep(sigmas[-(steps + 1) : -1]).tolist()
    return timesteps


NODE_CLASS_MAPPINGS = {"MiniatureFixedTokens": MiniatureFixedTokens}
