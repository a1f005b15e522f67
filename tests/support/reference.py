"""The TSC once more, written from the paper in plain functions over the checkpoint's own tensors.

Shares no line with the product, so that an error there does not hide here.
"""

import math

import torch
import torch.nn.functional as F


def tsc(weights: dict[str, torch.Tensor], features: torch.Tensor, timestep: float, heads: int = 8):
    """(1, L, D) features at one timestep -> (1, N, W) tokens, in the weights' float32."""

    def linear(name, x):
        return _linear(weights, name, x)

    def adaln(name, x):
        shift, scale = linear(f"{name}.linear", F.silu(temb)).chunk(2, dim=-1)
        mean = x.mean(dim=-1, keepdim=True)
        variance = x.var(dim=-1, keepdim=True, unbiased=False)
        return (x - mean) / (variance + 1e-6).sqrt() * (1 + scale) + shift

    half = weights["time_embedding.linear_1.weight"].shape[1] // 2
    angles = torch.tensor([timestep * math.exp(-math.log(10000) * i / half) for i in range(half)])
    sinusoid = torch.cat([angles.cos(), angles.sin()])[None]
    temb = linear("time_embedding.linear_2", F.silu(linear("time_embedding.linear_1", sinusoid)))

    latents = weights["connector.latents"][None] + linear(
        "connector.time_aware_linear", F.silu(temb)
    )
    text = linear("connector.proj_in", features)
    blocks = len({key.split(".")[2] for key in weights if "perceiver_blocks" in key})
    for i in range(blocks):
        block = f"connector.perceiver_blocks.{i}"
        q = adaln(f"{block}.ln_1", latents)
        kv = torch.cat([q, adaln(f"{block}.ln_2", text)], dim=1)
        latents = latents + _attention(weights, f"{block}.attn", q, kv, heads)
        hidden = F.relu(linear(f"{block}.mlp.c_fc", adaln(f"{block}.ln_ff", latents))) ** 2
        latents = latents + linear(f"{block}.mlp.c_proj", hidden)
    if "connector.proj_out.weight" not in weights:
        return latents
    context = linear("connector.proj_out", latents)
    mean = context.mean(dim=-1, keepdim=True)
    variance = context.var(dim=-1, keepdim=True, unbiased=False)
    normed = (context - mean) / (variance + 1e-5).sqrt()
    return normed * weights["connector.norm_out.weight"] + weights["connector.norm_out.bias"]


def pooled(weights: dict[str, torch.Tensor], context: torch.Tensor, heads: int = 8):
    """(1, N, C) context -> (1, P)."""
    query = weights["connector.pool.query"][None]
    attended = _attention(weights, "connector.pool.attn", query, context, heads)
    return _linear(weights, "connector.pool.proj", attended[:, 0])


def _linear(weights, name, x):
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _attention(weights, name, q, kv, heads):
    attended, _ = F.multi_head_attention_forward(
        *(x.transpose(0, 1) for x in (q, kv, kv)),
        embed_dim_to_check=q.shape[-1],
        num_heads=heads,
        in_proj_weight=weights[f"{name}.in_proj_weight"],
        in_proj_bias=weights[f"{name}.in_proj_bias"],
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=weights[f"{name}.out_proj.weight"],
        out_proj_bias=weights[f"{name}.out_proj.bias"],
        need_weights=False,
    )
    return attended.transpose(0, 1)
