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
    resampler: Resampler,
    features: torch.Tensor,
    timesteps: Sequence[int],
    block: int | None = None,
    head: int | None = None,
    latent: int | None = None,
) -> torch.Tensor:
    """Return how much the latents attend to each LLM token, at each timestep.

    A block's latents attend to themselves and to the text. The attention to latents is left out,
    and what remains is not scaled up: a row's sum is the share of the text.

    Args:
        resampler: a resampler; without a timestep embedding all timesteps are alike.
        features: (1, L, D) of one prompt, on the resampler's device.
        timesteps: 0-999.
        block: index of the one block to look at; None for the average of all.
        head: the same for heads.
        latent: the same for latents.

    Returns:
        (T, L) float32 on the CPU.
    """
    rows: list[torch.Tensor] = []
    attentions = _attentions(resampler)
    looked_at = attentions if block is None else attentions[block : block + 1]
    record = partial(_record, rows.append, head, latent)
    hooks = [each.register_forward_pre_hook(record) for each in looked_at]
    try:
        at = torch.tensor(timesteps, device=features.device)
        for timestep in at:  # one by one, since the weights of all take T x K x H x N x (N + L)
            resampler(features.float(), timestep[None])
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(rows).view(len(timesteps), len(looked_at), -1).mean(dim=1)


def attention_counts(resampler: Resampler) -> dict[str, int]:
    """Return how many blocks, heads and latents there are to choose from."""
    attentions = _attentions(resampler)
    latents = len(resampler.latents)
    return {"block": len(attentions), "head": attentions[0].heads, "latent": latents}


def _attentions(resampler: Resampler) -> list[Attention]:
    return [part for part in resampler.perceiver_blocks.modules() if type(part) is Attention]


def _record(
    keep: Callable[[torch.Tensor], None],
    head: int | None,
    latent: int | None,
    attention: Any,
    arguments: Any,
) -> None:
    """Keep (L,) of one call: all weights of a long prompt would take gigabytes."""
    q_1NW, kv_1LW, *_ = arguments
    weights_HNL = attention_weights(attention, q_1NW, kv_1LW)[0].float()
    if head is not None:
        weights_HNL = weights_HNL[head : head + 1]
    if latent is not None:
        weights_HNL = weights_HNL[:, latent : latent + 1]
    keep(weights_HNL[:, :, q_1NW.shape[-2] :].mean(dim=(0, 1)).cpu())


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
