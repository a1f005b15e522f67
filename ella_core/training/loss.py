"""The loss of training.

Shapes: B pictures, C latent channels, L LLM tokens, D LLM width, N context tokens.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..connectors import Connector
from .bases import Base
from .batches import Tensors
from .config import LossConfig


class Conditioning(nn.Module):
    """A connector and its pool in one forward pass, as distributed training needs it."""

    def __init__(self, connector: Connector) -> None:
        super().__init__()
        self.connector = connector

    def forward(
        self,
        features_BLD: torch.Tensor,
        timesteps_B: torch.Tensor,
        mask_BL: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Condition the U-Net.

        Returns:
            Context (B, N, context_dim); SDXL's pooled (B, pooled_dim) or None; and the context's
            own mask (B, N), None unless it is as long as the caption and padded like it.
        """
        context_BNC = self.connector(features_BLD, timesteps_B, mask_BL)
        mask_BN = mask_BL if self.connector.num_tokens is None else None
        if self.connector.pooled_dim is None:
            return context_BNC, None, mask_BN
        return context_BNC, self.connector.pooled(context_BNC), mask_BN


class NoiseLoss:
    """Error of the frozen U-Net's prediction (section 3.1, equation 1)."""

    def __init__(self, base: Base, loss: LossConfig) -> None:
        from diffusers import DDPMScheduler

        self._unet, self._family = base.unet, base.family
        self._v, self._gamma = base.prediction == "v_prediction", loss.min_snr
        self._schedule: Any = DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        )

    def __call__(self, conditioning: nn.Module, batch: Tensors) -> torch.Tensor:
        """Return (B,) loss of each picture."""
        context, pooled, mask = conditioning(batch.features, batch.timesteps, batch.mask)
        noisy = self._schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
        dtype = self._unet.dtype
        predicted = self._unet(
            noisy.to(dtype),
            batch.timesteps,
            context.to(dtype),
            encoder_attention_mask=mask,
            added_cond_kwargs=None
            if self._family == "sd15"
            # The sizes stay as they are: bf16 holds no odd number over 256.
            else {"text_embeds": pooled.to(dtype), "time_ids": batch.sizes},
        ).sample
        target = batch.noise
        if self._v:
            target = self._schedule.get_velocity(batch.latents, batch.noise, batch.timesteps)
        errors_B = F.mse_loss(predicted.float(), target, reduction="none").mean(dim=(1, 2, 3))
        return errors_B if self._gamma is None else errors_B * self._min_snr(batch.timesteps)

    def _min_snr(self, timesteps_B: torch.Tensor) -> torch.Tensor:
        """Weights of arXiv 2303.09556, section 3.4."""
        signal = self._schedule.alphas_cumprod.to(timesteps_B.device)[timesteps_B]
        snr = signal / (1 - signal)
        clamped = snr.clamp(max=self._gamma)
        weights: torch.Tensor = clamped / (snr + 1 if self._v else snr)
        return weights


class AlignLoss:
    """Error of the connector's context against given ones, a warm start without the U-Net."""

    def __call__(self, conditioning: nn.Module, batch: Tensors) -> torch.Tensor:
        """Return (B,) loss of each picture."""
        context, *_ = conditioning(batch.features, batch.timesteps, batch.mask)
        assert batch.context is not None
        return F.mse_loss(context.float(), batch.context, reduction="none").mean(dim=(1, 2))
