"""Deterministic random TSC weights in the official ELLA key layout, any size.

`state_dict()` with no arguments gives the dimensions of the released SD1.5 checkpoint:
93 tensors, 66,820,608 parameters. Every tensor is drawn from a generator seeded by the
CRC-32 of its key, so the same key and shape give the same values on every machine.
"""

import zlib

import numpy as np


def _draw(key, shape, scale):
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def shapes(width=768, layers=6, num_latents=64, llm_dim=2048, time_channels=320, time_dim=768):
    """Key -> shape of a TSC checkpoint in the official layout."""
    out = {}

    def linear(name, rows, cols):
        out[f"{name}.weight"] = (rows, cols)
        out[f"{name}.bias"] = (rows,)

    linear("time_embedding.linear_1", time_dim, time_channels)
    linear("time_embedding.linear_2", time_dim, time_dim)
    out["connector.latents"] = (num_latents, width)
    linear("connector.time_aware_linear", width, time_dim)
    linear("connector.proj_in", width, llm_dim)
    for i in range(layers):
        block = f"connector.perceiver_blocks.{i}"
        out[f"{block}.attn.in_proj_weight"] = (3 * width, width)
        out[f"{block}.attn.in_proj_bias"] = (3 * width,)
        linear(f"{block}.attn.out_proj", width, width)
        linear(f"{block}.mlp.c_fc", 4 * width, width)
        linear(f"{block}.mlp.c_proj", width, 4 * width)
        for norm in ("ln_1", "ln_2", "ln_ff"):
            linear(f"{block}.{norm}.linear", 2 * width, time_dim)
    return out


def state_dict(**dims):
    """Key -> float32 numpy array. Keyword arguments as for `shapes`."""
    out = {}
    for key, shape in shapes(**dims).items():
        scale = 0.02 if len(shape) == 1 else shape[-1] ** -0.5
        out[key] = _draw(key, shape, scale)
    return out


def llm_features(batch, length, llm_dim=2048, seed=0):
    """(batch, length, llm_dim) float32 stand-in for the LLM's last hidden state."""
    return np.random.default_rng(seed).standard_normal((batch, length, llm_dim)).astype(np.float32)
