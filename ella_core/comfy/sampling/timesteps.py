"""From the sigmas that samplers speak of to the timesteps that connectors know."""

from functools import cache
from typing import Any

import torch
from comfy.model_sampling import ModelSamplingDiscrete


def sigma_to_timestep(model_sampling: Any, sigma: torch.Tensor) -> list[int]:
    """The DDPM timestep of each sigma under the model's own noise schedule.

    A discrete schedule (also a patched one: v-prediction, zero terminal SNR, LCM) is asked for
    the very timestep that the U-Net is going to get. A continuous one (EDM) gives the U-Net
    something else, so the sigma is looked up in Stable Diffusion's own table.

    Args:
        model_sampling: of the model, as patched at this moment.
        sigma: (S,) noise levels.

    Returns:
        S timesteps, 0-999.
    """
    timestep = model_sampling.timestep(sigma)
    if timestep.is_floating_point():
        timestep = _stable_diffusion_schedule().timestep(sigma)
    timesteps: list[int] = timestep.tolist()
    return timesteps


@cache
def _stable_diffusion_schedule() -> ModelSamplingDiscrete:
    return ModelSamplingDiscrete()
