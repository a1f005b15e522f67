"""Tensor names and shapes of connector files: which kind they are of, and what belongs in them.

Resamplers and MLPs are stored as in the released `ella-sd1.5-tsc-t5xl.safetensors`, LLM adapters
as in Minthy/RouWei-Gemma. In memory the packed `in_proj` of each attention is three layers and
the `connector.` prefix is gone.
"""

import re
from collections.abc import Iterable, Mapping

import torch

from .config import (
    ConnectorConfig,
    LLMAdapterConfig,
    MLPConfig,
    ResamplerConfig,
    TimeConfig,
)
from .connectors import Connector, LLMAdapter
from .errors import EllaError

Shapes = Mapping[str, tuple[int, ...]]

# What DistributedDataParallel and torch.compile put in front of a module's names.
_WRAPPERS = {"module", "_orig_mod"}

_BLOCKS = "connector.perceiver_blocks."

# Only an LLM adapter has these. What a file has in front of one, it has in front of all.
_ADAPTER = re.compile(r"(.*\.)?(?:compression_queries$|wide_attention_blocks\.0\.)")

# Other names of an adapter's tensors. Some conversions do without the attentions' own modules.
_RENAMED = (
    (
        re.compile(r"^((?:wide|narrow)_attention_blocks\.\d+)\.([qkvo]|out)_proj\."),
        r"\1.attn.\2_proj.",
    ),
    (re.compile(r"^(compression|pooling)_([qkvo]|out)_proj\."), r"\1_attention.\2_proj."),
    (re.compile(r"\.o_proj\."), ".out_proj."),
)

_LLM_PLACE = "a folder in models/text_encoders, node Load LLM (ELLA)"
_SD_PLACE = "models/checkpoints, node Load Checkpoint"

# What else people pick by mistake: a part of a tensor's name, what such a file is, where it goes.
_FOREIGN = (
    ("lora_", "a LoRA", "models/loras, node Load LoRA"),
    (".lora", "a LoRA", "models/loras, node Load LoRA"),
    ("model.diffusion_model.", "a diffusion checkpoint", _SD_PLACE),
    ("control_model.", "a ControlNet", "models/controlnet, node Load ControlNet Model"),
    ("encoder.block.", "a T5 text encoder", _LLM_PLACE),
    ("model.layers.", "an LLM", _LLM_PLACE),
    ("decoder.conv_in", "a VAE", "models/vae, node Load VAE"),
)


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Return names without the prefixes of wrappers, and those of conversions undone.

    Returns:
        Name in the layout -> name in the file.

    Raises:
        EllaError: two names stand for one tensor.
    """
    plain = {name: ".".join(p for p in name.split(".") if p not in _WRAPPERS) for name in names}
    prefixes = [match[1] or "" for match in map(_ADAPTER.match, plain.values()) if match]
    if prefixes:
        prefix = min(prefixes, key=len)
        plain = {name: _undo_conversion(key.removeprefix(prefix)) for name, key in plain.items()}
    found: dict[str, str] = {}
    for name, key in plain.items():
        if key in found:
            raise EllaError(f"{key} is there twice, as {found[key]} and as {name}")
        found[key] = name
    return found


def _undo_conversion(key: str) -> str:
    for pattern, replacement in _RENAMED:
        key = pattern.sub(replacement, key)
    return key


def detect_config(shapes: Shapes, metadata: Mapping[str, str]) -> ConnectorConfig:
    """Tell a connector's kind and dimensions from its tensors' shapes.

    Args:
        shapes: plain name -> shape of every tensor in the file.
        metadata: the file's own metadata; `heads` there overrides the default, 8 for a resampler
            and 16 for an LLM adapter.

    Raises:
        EllaError: these are not the tensors of a connector.
    """
    if any(map(_ADAPTER.match, shapes)):
        return _detect_adapter(shapes, metadata)
    if not any(key.startswith("connector.") for key in shapes):
        raise EllaError(_describe_foreign(shapes))
    width, llm_dim = _shape(shapes, "connector.proj_in.weight")
    blocks = _indices(shapes, _BLOCKS)
    if not blocks and "connector.latents" not in shapes:
        return MLPConfig(llm_dim=llm_dim, width=width)
    context_dim = _first_dim(shapes, "connector.proj_out.weight")
    pooled_dim = _first_dim(shapes, "connector.pool.proj.weight")
    attended = [width] if pooled_dim is None else [width, context_dim or width]
    return ResamplerConfig(
        llm_dim=llm_dim,
        width=width,
        layers=len(blocks),
        heads=_heads(metadata, attended, default=8),
        num_latents=_shape(shapes, "connector.latents")[0],
        time=_detect_time(shapes, width),
        context_dim=context_dim,
        pooled_dim=pooled_dim,
    )


def _detect_adapter(shapes: Shapes, metadata: Mapping[str, str]) -> LLMAdapterConfig:
    width, llm_dim = _shape(shapes, "seq_projection.weight")
    return LLMAdapterConfig(
        llm_dim=llm_dim,
        width=width,
        wide_layers=len(_indices(shapes, "wide_attention_blocks.")),
        narrow_layers=len(_indices(shapes, "narrow_attention_blocks.")),
        heads=_heads(metadata, [width], default=16),
        max_tokens=_shape(shapes, "input_position_embeddings", 3)[1],
        num_latents=_shape(shapes, "compression_queries", 3)[1],
        pooled_dim=_shape(shapes, "pooled_projection.4.weight")[0],
    )


def _detect_time(shapes: Shapes, width: int) -> TimeConfig | None:
    if f"{_BLOCKS}0.ln_1.weight" in shapes:
        return None
    time_dim, channels = _shape(shapes, "time_embedding.linear_1.weight")
    modulation = _shape(shapes, f"{_BLOCKS}0.ln_1.linear.weight")[0]
    return TimeConfig(channels=channels, dim=time_dim, gated=modulation == 3 * width)


def _indices(shapes: Shapes, blocks: str) -> set[str]:
    return {key.removeprefix(blocks).split(".")[0] for key in shapes if key.startswith(blocks)}


def _shape(shapes: Shapes, key: str, dimensions: int = 2) -> tuple[int, ...]:
    shape = shapes.get(key)
    if shape is None or len(shape) != dimensions:
        wanted = "a matrix" if dimensions == 2 else f"of {dimensions} dimensions"
        found = "missing" if shape is None else f"of shape {list(shape)}, not {wanted}"
        raise EllaError(f"the tensor {key} is {found}")
    return shape


def _first_dim(shapes: Shapes, key: str) -> int | None:
    return _shape(shapes, key)[0] if key in shapes else None


def _heads(metadata: Mapping[str, str], widths: Iterable[int], default: int) -> int:
    text = metadata.get("heads", str(default))
    for width in widths:
        if not text.isdecimal() or int(text) == 0 or width % int(text):
            source = "its metadata asks for" if "heads" in metadata else "without metadata it has"
            raise EllaError(f"{source} {text!r} attention heads, impossible for a width of {width}")
    return int(text)


def _describe_foreign(shapes: Shapes) -> str:
    if "seq_projection.0.weight" in shapes:
        return (
            "this looks like an adapter for Jina CLIP v2, which can't be used: that LLM needs "
            "Python code from its folder, and such code is never run"
        )
    for part, what, where in _FOREIGN:
        if any(part in key for key in shapes):
            return f"this looks like {what} (it belongs in {where}), not an ELLA connector"
    example = f", the first named {min(shapes)!r}" if shapes else ""
    return f"it holds {len(shapes)} tensors{example}, none of them of an ELLA connector"


def check_layout(connector: Connector, shapes: Shapes) -> None:
    """Compare the tensors of a file with those that the connector has.

    Raises:
        EllaError: one is missing, surplus or of another shape.
    """
    state = to_file_layout(connector, shapes)
    expected = {key: tuple(tensor.shape) for key, tensor in state.items()}
    problems = [f"{key} is missing" for key in expected.keys() - shapes.keys()]
    problems += [f"{key} does not belong there" for key in shapes.keys() - expected.keys()]
    problems += [
        f"{key} is {list(shapes[key])}, expected {list(expected[key])}"
        for key in expected.keys() & shapes.keys()
        if shapes[key] != expected[key]
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise EllaError("; ".join(sorted(problems)[:3]) + more)


def from_file_layout(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a file's tensors, under their plain names, by the names of the module's."""
    out = {}
    for file_key, tensor in state.items():
        key = file_key.removeprefix("connector.")
        attention, packed, kind = key.partition(".in_proj_")
        if packed:
            for layer, part in zip("qkv", tensor.chunk(3), strict=True):
                out[f"{attention}.to_{layer}.{kind}"] = part
        else:
            out[re.sub(r"\.([qkv])_proj\.", r".to_\1.", key)] = tensor
    return out


def to_file_layout(connector: Connector, like: Iterable[str] = ()) -> dict[str, torch.Tensor]:
    """Return a connector's tensors by their names in a file.

    Args:
        connector: the connector.
        like: names of a file, which may keep q, k and v of an attention apart. Without them they
            are packed, as in the released files.
    """
    prefix = "" if isinstance(connector, LLMAdapter) else "connector."
    apart = {match[1] for match in map(re.compile(r"(.*)\.[qkv]_proj\.").match, like) if match}
    state, out = connector.state_dict(), {}
    for key, tensor in state.items():
        name = key if key.startswith("time_embedding.") else f"{prefix}{key}"
        attention, to, layer = name.partition(".to_")
        if attention in apart and to:
            out[f"{attention}.{layer.replace('.', '_proj.')}"] = tensor
        elif layer.startswith("q."):
            parts = [state[key.replace(".to_q.", f".to_{other}.")] for other in "qkv"]
            out[f"{attention}.in_proj_{layer[2:]}"] = torch.cat(parts)
        elif not to:
            out[name] = tensor
    return out
