"""A small DDIM sampler that shows how a training goes, without a ComfyUI.

Shapes: B batch, N tokens, D their width, Z side of a latent.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

from .base import alphas, scene_tokens
from .judge import mean_verdict
from .training import autocast
from .vae import VAE
from .world import Scene

#: Timestep (B,) -> the tokens (B, N, D) of each scene then.
Tokens = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def sample(
    unet: torch.nn.Module, tokens: Tokens, batch: int, seed: int, steps: int = 12, cfg: float = 2.5
) -> torch.Tensor:
    """Return latents (B, 4, Z, Z)."""
    none_BND = scene_tokens(None).expand(batch, -1, -1)
    alpha = alphas()
    x = torch.randn(batch, 4, 12, 12, generator=torch.Generator().manual_seed(seed))
    times = torch.linspace(999, 0, steps + 1).round().long()
    for now, then in pairwise(times):
        t = now.expand(batch)
        context = torch.cat([tokens(t), none_BND])
        with autocast():
            with_prompt, without = (
                unet(torch.cat([x, x]), t.repeat(2), context=context).float().chunk(2)
            )
        noise = without + cfg * (with_prompt - without)
        clean = (x - (1 - alpha[now]).sqrt() * noise) / alpha[now].sqrt()
        clean = clean.clamp(-4, 4)
        noise = (x - alpha[now].sqrt() * clean) / (1 - alpha[now]).sqrt()
        x = alpha[then].sqrt() * clean + (1 - alpha[then]).sqrt() * noise
    return x


def evaluate_base(unet: torch.nn.Module, vae: VAE, scenes: Sequence[Scene]) -> dict[str, float]:
    """Paint scenes from their own scene tokens and judge the pictures."""
    tokens = torch.stack([scene_tokens(scene) for scene in scenes])
    latents = sample(unet, lambda _: tokens, len(scenes), seed=0)
    return mean_verdict(list(vae.decode(latents)), scenes)
