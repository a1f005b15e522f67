"""Embedding of the timestep."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..config import TimeConfig
from .base import Operations


def sinusoid(timestep: torch.Tensor, channels: int) -> torch.Tensor:
    """Encode timesteps as sinusoids with period 10000, cosine half first, in float32.

    Args:
        timestep: (*B) DDPM timesteps, 0-999.
        channels: even number of channels.

    Returns:
        (*B, channels) float32.
    """
    half = channels // 2
    # The order of these operations is the one the weights were trained with: another one rounds
    # the frequencies differently, and at timestep 999 that shows in the tokens (1.7e-4).
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=timestep.device)
    angle = timestep.float()[..., None] * torch.exp(exponent / half)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    """Sinusoid -> Linear -> SiLU -> Linear."""

    def __init__(self, config: TimeConfig, operations: Operations) -> None:
        super().__init__()
        self.channels = config.channels
        self.linear_1 = operations.Linear(config.channels, config.dim)
        self.linear_2 = operations.Linear(config.dim, config.dim)

    def forward(self, timestep: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Map timesteps (*B) to (*B, dim) in `dtype`; the sinusoid itself is always float32."""
        hidden = self.linear_1(sinusoid(timestep, self.channels).to(dtype))
        embedding: torch.Tensor = self.linear_2(F.silu(hidden))
        return embedding
