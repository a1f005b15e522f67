"""The base: a U-Net that ComfyUI takes for SD1.5, conditioned on scene tokens. It can't read.

A scene's tokens are one for the background, one for each of the nine places, and spare ones that
a connector is free to leave alone. What is not there has the null token.

Shapes: B batch, N scene tokens, D their width, Z side of a latent.
"""

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from .training import Log, Loop, autocast
from .vae import VAE
from .world import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    Scene,
    draw_crowded_scene,
    draw_scene,
    paint,
)

#: SD1.5's first level with one residual block: 16.2M parameters.
UNET: dict[str, Any] = {
    "image_size": 12,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": [1],
    "num_res_blocks": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 0],
    "transformer_depth_middle": -2,
    "num_heads": 8,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "legacy": False,
}
TOKENS, TOKEN_WIDTH = 16, 768
_VALUES = ("null", *BACKGROUNDS, *SHAPES, *COLOURS, *SIZES, *(f"place {i}" for i in range(9)))


@cache
def codes() -> dict[str, torch.Tensor]:
    """Return the fixed random vector (D,) of each background, shape, colour, size and place."""
    generator = torch.Generator().manual_seed(768)
    return dict(
        zip(_VALUES, torch.randn(len(_VALUES), TOKEN_WIDTH, generator=generator), strict=True)
    )


def scene_tokens(scene: Scene | None) -> torch.Tensor:
    """Return the tokens (N, D) of a scene, or of None what stands for no prompt at all."""
    code = codes()
    tokens_ND = code["null"].repeat(TOKENS, 1)
    if scene is not None:
        tokens_ND[0] = code[scene.background]
        for thing in scene.things:
            parts = (thing.shape, thing.colour, thing.size, f"place {thing.place}")
            tokens_ND[1 + thing.place] = sum(code[part] for part in parts)
    return F.layer_norm(tokens_ND, (TOKEN_WIDTH,))


def build_unet() -> torch.nn.Module:
    """Return a U-Net of ComfyUI's own class, with initial weights for training."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet: torch.nn.Module = UNetModel(**UNET)
    for module in unet.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_uniform_(module.weight, a=5**0.5)  # torch's default
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        elif isinstance(module, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
            torch.nn.init.ones_(module.weight)
            torch.nn.init.zeros_(module.bias)
    torch.nn.init.zeros_(unet.out[-1].weight)
    return unet.requires_grad_(True)


def alphas() -> torch.Tensor:
    """Return SD1.5's cumulative products of alpha (1000,)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def _training_scene(seed: int) -> Scene:
    """Every second scene is crowded, from which more is learned than from one or two things."""
    return draw_crowded_scene(seed) if seed % 2 else draw_scene(seed)


def encode_scenes(vae: VAE, scenes: list[Scene]) -> torch.Tensor:
    """Return the latents (B, 4, Z, Z) of scenes, their things moved by the seed of their index."""
    latents = []
    for start in range(0, len(scenes), 32):
        batch = enumerate(scenes[start : start + 32], start)
        latents.append(vae.encode(np.stack([paint(scene, i) for i, scene in batch])))
    return torch.cat(latents).contiguous()


def _latents(vae: VAE, scenes: list[Scene], path: Path) -> torch.Tensor:
    """Encode scenes, or read what an interrupted training has encoded."""
    if not path.is_file():
        save_file({"latents": encode_scenes(vae, scenes)}, path)
    return load_file(path)["latents"]


def train(
    vae: VAE, log: Log, steps: int, number: int = 4000, batch: int = 32, rate: float = 1e-3
) -> torch.nn.Module:
    """Train on the noise MSE, weighted by min(SNR, 5) / SNR; a tenth of the scenes has no tokens.

    Args:
        vae: makes the latents.
        log: keeps curve and checkpoint.
        steps: of a batch each.
        number: of different pictures.
        batch: pictures a step.
        rate: highest learning rate.
    """
    torch.manual_seed(1)
    unet = build_unet()
    loop = Loop(unet, "base", log, steps, rate, decay=0.01, average=0.995)
    scenes = [_training_scene(seed) for seed in range(number)]
    latents = _latents(vae, scenes, log.folder / "latents.safetensors")
    tokens = torch.stack([scene_tokens(scene) for scene in scenes])
    alpha = alphas()
    weight = (5 / (alpha / (1 - alpha))).clamp(max=1)
    rng = random.Random(loop.step)
    none = scene_tokens(None)
    while loop.goes_on():
        chosen = torch.tensor(rng.sample(range(number), batch))
        context = tokens[chosen]
        context[: batch // 10] = none
        x0 = latents[chosen]
        t = torch.randint(1000, (batch,))
        noise = torch.randn_like(x0)
        a = alpha[t][:, None, None, None]
        with autocast():
            out = unet(a.sqrt() * x0 + (1 - a).sqrt() * noise, t, context=context).float()
        error = ((out - noise) ** 2).mean((1, 2, 3))
        loop.update((weight[t] * error).mean(), noise_mse=error.mean().detach())
    return unet
