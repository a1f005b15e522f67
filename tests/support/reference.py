"""The connectors once more, in plain functions over the checkpoints' own tensors.

The TSC is written from the paper, the LLM adapter from a description of its forward pass.

Shares no line with the product, so that an error there does not hide here.
"""

import math

import torch
import torch.nn.functional as F


def tsc(
    weights: dict[str, torch.Tensor],
    features: torch.Tensor,
    timestep: float,
    heads: int = 8,
    seen: list | None = None,
):
    """(1, L, D) features at one timestep -> (1, N, W) tokens, in the weights' float32.

    `seen` gets what each block's attention reads: its name, queries and keys.
    """

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
        if seen is not None:
            seen.append((f"{block}.attn", q[0], kv[0]))
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


def llm_adapter(weights: dict[str, torch.Tensor], features: torch.Tensor, mask=None, heads=16):
    """(1, L, D) features, (1, L) mask of ones and zeros -> (1, N, W) context, (1, P) pooled.

    The text is filled up to the adapter's full length, and what was filled in is masked.
    """
    inputs = weights["input_position_embeddings"].shape[1]
    mask = torch.ones(features.shape[:2]) if mask is None else mask
    hidden = _linear(weights, "seq_projection", features)[:, :inputs]
    missing = inputs - hidden.shape[1]
    hidden = F.pad(hidden, (0, 0, 0, missing)) + weights["input_position_embeddings"]
    padding = F.pad(mask[:, :inputs].float(), (0, missing)) == 0
    hidden = _adapter_blocks(weights, "wide_attention_blocks", hidden, heads, padding)
    queries = weights["compression_queries"]
    read = _attention(weights, "compression_attention", queries, hidden, heads, padding)
    gate = _linear(weights, "compression_gate.0", torch.cat([queries, read], dim=-1)).sigmoid()
    latents = _norm(weights, "compression_norm", gate * read + (1 - gate) * queries)
    latents = latents + weights["output_position_embeddings"]
    context = _adapter_blocks(weights, "narrow_attention_blocks", latents, heads)
    token = _attention(weights, "pooling_attention", weights["pooling_token"], context, heads)
    hidden = _norm(weights, "pooled_projection.1", _linear(weights, "pooled_projection.0", token))
    return context, _linear(weights, "pooled_projection.4", F.gelu(hidden))[:, 0]


def _adapter_blocks(weights, name, x, heads, padding=None):
    for i in range(len({key.split(".")[1] for key in weights if key.startswith(name)})):
        block = f"{name}.{i}"
        normed = _norm(weights, f"{block}.norm1", x)
        x = x + _attention(weights, f"{block}.attn", normed, normed, heads, padding)
        hidden = _linear(weights, f"{block}.mlp.0", _norm(weights, f"{block}.norm2", x))
        x = x + _linear(weights, f"{block}.mlp.2", F.gelu(hidden))
    return x


def _norm(weights, name, x):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def _linear(weights, name, x):
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _attention(weights, name, q, kv, heads, padding=None):
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
        key_padding_mask=padding,
    )
    return attended.transpose(0, 1)
