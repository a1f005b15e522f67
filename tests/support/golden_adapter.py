"""Deterministic random weights of an SDXL LLM adapter in the released key layout, any size.

`shapes()` with `llm_dim=1152, wide=2` (Gemma) or `llm_dim=2304, wide=3` (T5Gemma) and no other
argument gives the released sizes: 305,253,632 and 357,971,200 parameters.
"""

from .golden_weights import _draw


def shapes(llm_dim, wide, width=2048, pooled=1280, inputs=512, outputs=308, narrow=3):
    """Key -> shape. The number of heads, 16 in the released sizes, is not in the shapes."""
    out = {
        "input_position_embeddings": (1, inputs, width),
        "output_position_embeddings": (1, outputs, width),
        "compression_queries": (1, outputs, width),
        "pooling_token": (1, 1, width),
    }

    def linear(name, rows, cols):
        out[f"{name}.weight"] = (rows, cols)
        out[f"{name}.bias"] = (rows,)

    def norm(name):
        out[f"{name}.weight"] = out[f"{name}.bias"] = (width,)

    def attention(name):
        out[f"{name}.in_proj_weight"] = (3 * width, width)
        out[f"{name}.in_proj_bias"] = (3 * width,)
        linear(f"{name}.out_proj", width, width)

    linear("seq_projection", width, llm_dim)
    for kind, count in (("wide", wide), ("narrow", narrow)):
        for i in range(count):
            block = f"{kind}_attention_blocks.{i}"
            norm(f"{block}.norm1")
            attention(f"{block}.attn")
            norm(f"{block}.norm2")
            linear(f"{block}.mlp.0", 4 * width, width)
            linear(f"{block}.mlp.2", width, 4 * width)
    attention("compression_attention")
    norm("compression_norm")
    linear("compression_gate.0", width, 2 * width)
    attention("pooling_attention")
    linear("pooled_projection.0", width, width)
    norm("pooled_projection.1")
    linear("pooled_projection.4", pooled, width)
    return out


def state_dict(llm_dim, wide, **dims):
    """Key -> float32 numpy array. Norms are around 1, matrices keep their input's variance."""
    out = {}
    for key, shape in shapes(llm_dim, wide, **dims).items():
        is_norm = ".norm" in key or "_norm." in key or "pooled_projection.1." in key
        if is_norm:
            out[key] = _draw(key, shape, 0.1) + (1 if key.endswith("weight") else 0)
        elif len(shape) == 1:
            out[key] = _draw(key, shape, 0.02)
        else:
            out[key] = _draw(key, shape, 1.0 if len(shape) == 3 else shape[-1] ** -0.5)
    return out
