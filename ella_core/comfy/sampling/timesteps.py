"""From sigmas, which samplers use, to timesteps, which connectors use."""

from functools import cache
from typing import Any

import torch
from comfy.model_sampling import ModelSamplingDiscrete


def sigma_to_timestep(model_sampling: Any, sigma: torch.Tensor) -> torch.Tensor:
    """Return the DDPM timestep of each sigma under the model's own noise schedule.

    A discrete schedule (also a patched one: v-prediction, zero terminal SNR, LCM) returns the
    timestep that the U-Net is going to get. A continuous one (EDM) gives the U-Net something else,
    so the sigma is looked up in Stable Diffusion's own table.

    Args:
        model_sampling: the model's, as patched at the moment.
        sigma: (S,) noise levels.

    Returns:
        (S,) timesteps, 0-999, on the device of `sigma`.
    """
    timestep: torch.Tensor = model_sampling.timestep(sigma)
    if timestep.is_floating_point():
        timestep = _stable_diffusion_schedule().timestep(sigma)
    return timestep


@cache
def _stable_diffusion_schedule() -> ModelSamplingDiscrete:
    return ModelSamplingDiscrete()
