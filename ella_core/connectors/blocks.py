"""Perceiver block: latents attend to themselves and to the text, then pass through an MLP.

Shapes: B any batch dimensions, N latents, L LLM tokens, W width, C width of the context, P width
of the pooled embedding, T width of the timestep embedding, H heads.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..config import ResamplerConfig, TimeConfig
from .base import Operations


class AdaLN(nn.Module):
    """Layer norm whose shift and scale (and gate, for AdaLN-Zero) come from the timestep."""

    def __init__(self, width: int, time_dim: int, operations: Operations, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.linear = operations.Linear(time_dim, (3 if gated else 2) * width)

    def forward(
        self, x_BNW: torch.Tensor, act_BT: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the normalised (*B, N, W) and the gate (*B, 1, W), None without one.

        `act_BT` is SiLU(timestep embedding): the same for all layers, so computed once outside.
        """
        modulation = self.linear(act_BT)[..., None, :]
        shift, scale, *gate = modulation.chunk(3 if self.gated else 2, dim=-1)
        normed = F.layer_norm(x_BNW, x_BNW.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return normed, gate[0] if self.gated else None


class Attention(nn.Module):
    """Multi-head attention with separate q, k and v layers, which a host can move one by one."""

    def __init__(self, width: int, heads: int, operations: Operations) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = operations.Linear(width, width)
        self.to_k = operations.Linear(width, width)
        self.to_v = operations.Linear(width, width)
        self.out_proj = operations.Linear(width, width)

    def forward(
        self, q_BNW: torch.Tensor, kv_BLW: torch.Tensor, attended: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attend to `kv_BLW`; `attended` is (B', L) bool for B' = all of B, None for everything."""

        def split(x: torch.Tensor) -> torch.Tensor:  # (*B, N, W) -> (B', H, N, W / H)
            return x.view(-1, x.shape[-2], self.heads, x.shape[-1] // self.heads).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(
            split(self.to_q(q_BNW)),
            split(self.to_k(kv_BLW)),
            split(self.to_v(kv_BLW)),
            attn_mask=None if attended is None else attended[:, None, None],
        )
        out: torch.Tensor = self.out_proj(mixed.transpose(1, 2).reshape(q_BNW.shape))
        return out

    def reset_parameters(self) -> None:
        """Draw q, k and v as one Xavier-uniform (3W, W) matrix, as in `nn.MultiheadAttention`."""
        width = self.to_q.in_features
        bound = (6 / (3 * width + width)) ** 0.5
        for layer in (self.to_q, self.to_k, self.to_v):
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out_proj.bias)


class SquaredReLUMLP(nn.Module):
    """W -> 4W -> W with a squared ReLU between."""

    def __init__(self, width: int, operations: Operations) -> None:
        super().__init__()
        self.c_fc = operations.Linear(width, 4 * width)
        self.c_proj = operations.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.c_proj(F.relu(self.c_fc(x)).square())
        return out


class PerceiverBlock(nn.Module):
    """One block of the resampler; its norms are AdaLN where the connector knows the timestep."""

    def __init__(self, config: ResamplerConfig, operations: Operations) -> None:
        super().__init__()
        width, time = config.width, config.time
        self.attn = Attention(width, config.heads, operations)
        self.mlp = SquaredReLUMLP(width, operations)
        self.ln_1 = _norm(width, time, operations, gated=True)
        self.ln_2 = _norm(width, time, operations, gated=False)
        self.ln_ff = _norm(width, time, operations, gated=True)

    def forward(
        self,
        latents_BNW: torch.Tensor,
        text_BLW: torch.Tensor,
        act_BT: torch.Tensor | None,
        attended: torch.Tensor | None = None,
    ) -> torch.Tensor:
        q_BNW, gate = _normalise(self.ln_1, latents_BNW, act_BT)
        text_BLW, _ = _normalise(self.ln_2, text_BLW, act_BT)
        text_BLW = text_BLW.expand(*q_BNW.shape[:-2], *text_BLW.shape[-2:])
        kv_BLW = torch.cat([q_BNW, text_BLW], dim=-2)
        mixed = self.attn(q_BNW, kv_BLW, attended)
        latents_BNW = latents_BNW + (mixed if gate is None else gate * mixed)
        hidden, gate = _normalise(self.ln_ff, latents_BNW, act_BT)
        hidden = self.mlp(hidden)
        out: torch.Tensor = latents_BNW + (hidden if gate is None else gate * hidden)
        return out


class AttentionPool(nn.Module):
    """A learned query that attends to the context, then a linear layer."""

    def __init__(
        self, context_dim: int, pooled_dim: int, heads: int, operations: Operations
    ) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, context_dim))
        self.attn = Attention(context_dim, heads, operations)
        self.proj = operations.Linear(context_dim, pooled_dim)

    def forward(self, context_BNC: torch.Tensor) -> torch.Tensor:
        """Pool a context (*B, N, C) to (*B, P)."""
        query_B1C = self.query.to(context_BNC).expand(*context_BNC.shape[:-2], 1, -1)
        pooled_BP: torch.Tensor = self.proj(self.attn(query_B1C, context_BNC)[..., 0, :])
        return pooled_BP


def _norm(width: int, time: TimeConfig | None, operations: Operations, gated: bool) -> Any:
    if time is None:
        return operations.LayerNorm(width)
    return AdaLN(width, time.dim, operations, gated=time.gated and gated)


def _normalise(
    norm: Any, x: torch.Tensor, act_BT: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    out: tuple[torch.Tensor, torch.Tensor | None]
    out = norm(x, act_BT) if isinstance(norm, AdaLN) else (norm(x), None)
    return out
