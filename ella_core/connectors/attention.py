"""What a resampler's latents attend to in a prompt (arXiv 2403.05135, Figure 8).

Shapes: T timesteps, K blocks, H heads, N latents, L LLM tokens, D LLM width, W width.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from .blocks import Attention
from .resampler import Resampler


@torch.no_grad()
def attention_to_text(
    resampler: Resampler, features: torch.Tensor, timesteps: Sequence[int]
) -> torch.Tensor:
    """Return how much each latent attends to each LLM token, at each timestep.

    A block's latents attend to themselves and to the text. The attention to latents is left out,
    and what remains is not scaled up: a row's sum is the share of the text.

    Args:
        resampler: a resampler; without a timestep embedding all timesteps are alike.
        features: (1, L, D) of one prompt, on the resampler's device.
        timesteps: 0-999.

    Returns:
        (T, K, H, N, L) float32 on the CPU.
    """
    blocks: list[torch.Tensor] = []
    attentions = [part for part in resampler.perceiver_blocks.modules() if type(part) is Attention]
    hooks = [each.register_forward_pre_hook(partial(_record, blocks.append)) for each in attentions]
    try:
        at = torch.tensor(timesteps, device=features.device)
        for timestep in at:  # one by one, since the weights of all take T x K x H x N x (N + L)
            resampler(features.float(), timestep[None])
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(blocks).view(len(timesteps), len(attentions), *blocks[0].shape)


def _record(keep: Callable[[torch.Tensor], None], attention: Any, arguments: Any) -> None:
    """Keep the weights (H, N, L) of one call."""
    q_1NW, kv_1LW, *_ = arguments
    weights_1HNL = attention_weights(attention, q_1NW, kv_1LW)
    keep(weights_1HNL[0, :, :, q_1NW.shape[-2] :].float().cpu())


def attention_weights(
    attention: Attention, q_BNW: torch.Tensor, kv_BLW: torch.Tensor
) -> torch.Tensor:
    """Return the attention (B, H, N, L) that `Attention.forward` mixes its values with."""
    heads = attention.heads
    q_BHNC = attention.to_q(q_BNW).unflatten(-1, (heads, -1)).transpose(-3, -2)
    k_BHLC = attention.to_k(kv_BLW).unflatten(-1, (heads, -1)).transpose(-3, -2)
    scores = q_BHNC @ k_BHLC.transpose(-2, -1) / q_BHNC.shape[-1] ** 0.5
    weights: torch.Tensor = scores.softmax(dim=-1)
    return weights
