"""The perceiver resampler, and with a timestep the TSC (arXiv 2403.05135).

Shapes: B batch, N latents, L LLM tokens, D LLM width, W width, C width of the context, T width of
the timestep embedding.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..config import ResamplerConfig
from .base import Connector, Operations, batch_shape, reset_layers
from .blocks import AdaLN, Attention, AttentionPool, PerceiverBlock
from .timestep import TimestepEmbedding


class Resampler(Connector):
    """Learned latents read a text of any length and become a context of `num_latents` tokens.

    With `config.time` it is the Timestep-Aware Semantic Connector: the timestep shifts the
    latents and modulates every norm, so that the context differs at each denoising step.
    """

    def __init__(self, config: ResamplerConfig, operations: Operations) -> None:
        super().__init__(config)
        self.timestep_aware, self.num_tokens = config.time is not None, config.num_latents
        self.context_dim = config.context_dim or config.width
        self.pooled_dim = config.pooled_dim
        self.time_embedding: TimestepEmbedding | None = None
        if config.time is not None:
            self.time_embedding = TimestepEmbedding(config.time, operations)
            self.time_aware_linear = operations.Linear(config.time.dim, config.width)
        self.latents = nn.Parameter(torch.empty(config.num_latents, config.width))
        self.proj_in = operations.Linear(config.llm_dim, config.width)
        self.perceiver_blocks = nn.ModuleList(
            PerceiverBlock(config, operations) for _ in range(config.layers)
        )
        self.proj_out = None
        if config.context_dim is not None:
            self.proj_out = operations.Linear(config.width, config.context_dim)
            self.norm_out = operations.LayerNorm(config.context_dim)
        self.pool: AttentionPool | None = None
        if config.pooled_dim is not None:
            self.pool = AttentionPool(self.context_dim, config.pooled_dim, config.heads, operations)

    def forward(
        self,
        llm_features: torch.Tensor,
        timestep: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `Connector.forward`; N is `config.num_latents`."""
        text_BLW = self.proj_in(llm_features)
        # A host may keep the weights elsewhere or in another dtype: its layers follow their
        # input by themselves, this bare parameter has to be told.
        latents_BNW = self.latents.to(text_BLW)[None]
        act_BT = None
        if self.time_embedding is not None:
            act_BT = F.silu(self.time_embedding(timestep, text_BLW.dtype))
            latents_BNW = latents_BNW + self.time_aware_linear(act_BT)[..., None, :]
        batch = batch_shape(text_BLW, timestep)
        latents_BNW = latents_BNW.expand(*batch, *latents_BNW.shape[-2:])
        attended = None if mask is None else _beside_latents(mask, latents_BNW)
        for block in self.perceiver_blocks:
            latents_BNW = block(latents_BNW, text_BLW, act_BT, attended)
        if self.proj_out is None:
            return latents_BNW
        context_BNC: torch.Tensor = self.norm_out(self.proj_out(latents_BNW))
        return context_BNC

    def pooled(self, context: torch.Tensor) -> torch.Tensor:
        """See `Connector.pooled`."""
        if self.pool is None:
            return super().pooled(context)
        pooled: torch.Tensor = self.pool(context)
        return pooled

    def reset_parameters(self) -> None:
        """Draw initial weights: every norm starts as a plain layer norm, every gate at zero.

        Latents are normal with variance 1 / W, the pool's query with 1 / C; q, k and v are
        Xavier-uniform as one (3W, W) matrix with zero biases, as in `nn.MultiheadAttention`; all
        else is torch's default.
        """
        reset_layers(self)
        nn.init.normal_(self.latents, std=self.latents.shape[-1] ** -0.5)
        if self.pool is not None:
            nn.init.normal_(self.pool.query, std=self.context_dim**-0.5)
        for module in self.modules():
            if isinstance(module, AdaLN):
                nn.init.zeros_(module.linear.weight)
                nn.init.zeros_(module.linear.bias)
            elif isinstance(module, Attention):
                module.reset_parameters()


def _beside_latents(mask_BL: torch.Tensor, latents_BNW: torch.Tensor) -> torch.Tensor:
    """Return (B', N + L) bool, B' = all of B: all latents, and the text as the mask says."""
    *batch, N, _ = latents_BNW.shape
    mask_BL = mask_BL.expand(*batch, -1)
    return torch.cat([mask_BL.new_ones(*batch, N), mask_BL], dim=-1).flatten(0, -2)
