"""Connector checkpoints: what a file holds, read from its tensors' names and shapes.

The file layout is that of the released `ella-sd1.5-tsc-t5xl.safetensors`; in memory the packed
`attn.in_proj` of each block is three layers and the `connector.` prefix is gone.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .config import (
    ConnectorConfig,
    ConnectorMetadata,
    MLPConfig,
    ResamplerConfig,
    TimeConfig,
)
from .connectors import Connector, Operations, build_connector
from .errors import EllaError

Shapes = Mapping[str, tuple[int, ...]]

# What DistributedDataParallel and torch.compile put in front of a module's names.
_WRAPPERS = {"module", "_orig_mod"}

_BLOCKS = "connector.perceiver_blocks."
_RELEASED = "ella-sd1.5-tsc-t5xl.safetensors"

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


def load_connector(
    path: Path, operations: Operations = torch.nn, dtype: torch.dtype | None = None
) -> Connector:
    """Read a connector of any kind and size; every tensor must be there and finite.

    Args:
        path: a `.safetensors` file in the released layout. Names may carry the prefixes of
            DistributedDataParallel and torch.compile.
        operations: see `build_connector`.
        dtype: dtype to keep the weights in; None keeps the file's.

    Returns:
        The connector, with the file's metadata.

    Raises:
        EllaError: not a safetensors file, damaged, or not a connector.
    """
    with _open(path) as file, _naming(path):
        stored = _unwrapped(file.keys())
        shapes = {key: tuple(file.get_slice(name).get_shape()) for key, name in stored.items()}
        metadata = file.metadata() or {}
        config = detect_config(shapes, metadata)
        with torch.device("meta"):
            connector = build_connector(config, operations)
        connector.metadata = _parse_metadata(metadata)
        _check_layout(connector, shapes)
        state = {key: file.get_tensor(name) for key, name in stored.items()}
        _check_finite(state)
    # Copies: a view of the file would change with it.
    state = {key: t.to(dtype, copy=True) for key, t in _from_file_layout(state).items()}
    connector.load_state_dict(state, assign=True)
    return connector.eval().requires_grad_(False)


def read_metadata(path: Path) -> ConnectorMetadata:
    """Read how a connector was trained from its file's header.

    Raises:
        EllaError: not a safetensors file, damaged, or the metadata are wrong.
    """
    with _open(path) as file, _naming(path):
        return _parse_metadata(file.metadata() or {})


def save_connector(connector: Connector, path: Path) -> None:
    """Write `connector` and its metadata in the layout that `load_connector` reads."""
    state = {k: v.contiguous() for k, v in _to_file_layout(connector.state_dict()).items()}
    known = {k: str(v) for k, v in asdict(connector.metadata).items() if v is not None}
    if isinstance(connector.config, ResamplerConfig):
        known["heads"] = str(connector.config.heads)
    save_file(state, path, metadata={"format": "pt", **known})


def detect_config(shapes: Shapes, metadata: Mapping[str, str]) -> ConnectorConfig:
    """Tell a connector's kind and dimensions from its tensors' shapes.

    Args:
        shapes: name -> shape of every tensor in the file.
        metadata: the file's own metadata; `heads` there overrides the default of 8.

    Raises:
        EllaError: these are not the tensors of a connector.
    """
    if not any(key.startswith("connector.") for key in shapes):
        raise EllaError(_describe_foreign(shapes))
    width, llm_dim = _shape(shapes, "connector.proj_in.weight")
    blocks = {key.split(".")[2] for key in shapes if key.startswith(_BLOCKS)}
    if not blocks and "connector.latents" not in shapes:
        return MLPConfig(llm_dim=llm_dim, width=width)
    context_dim = _first_dim(shapes, "connector.proj_out.weight")
    pooled_dim = _first_dim(shapes, "connector.pool.proj.weight")
    attended = [width] if pooled_dim is None else [width, context_dim or width]
    return ResamplerConfig(
        llm_dim=llm_dim,
        width=width,
        layers=len(blocks),
        heads=_heads(metadata, attended),
        num_latents=_shape(shapes, "connector.latents")[0],
        time=_detect_time(shapes, width),
        context_dim=context_dim,
        pooled_dim=pooled_dim,
    )


def _detect_time(shapes: Shapes, width: int) -> TimeConfig | None:
    if f"{_BLOCKS}0.ln_1.weight" in shapes:
        return None
    time_dim, channels = _shape(shapes, "time_embedding.linear_1.weight")
    modulation = _shape(shapes, f"{_BLOCKS}0.ln_1.linear.weight")[0]
    return TimeConfig(channels=channels, dim=time_dim, gated=modulation == 3 * width)


def _shape(shapes: Shapes, key: str) -> tuple[int, int]:
    shape = shapes.get(key)
    if shape is None or len(shape) != 2:
        found = "missing" if shape is None else f"of shape {list(shape)}, not a matrix"
        raise EllaError(f"the tensor {key} is {found}")
    return shape[0], shape[1]


def _first_dim(shapes: Shapes, key: str) -> int | None:
    return _shape(shapes, key)[0] if key in shapes else None


def _heads(metadata: Mapping[str, str], widths: Iterable[int]) -> int:
    text = metadata.get("heads", "8")
    for width in widths:
        if not text.isdecimal() or int(text) == 0 or width % int(text):
            source = "its metadata asks for" if "heads" in metadata else "without metadata it has"
            raise EllaError(f"{source} {text!r} attention heads, impossible for a width of {width}")
    return int(text)


def _parse_metadata(metadata: Mapping[str, str]) -> ConnectorMetadata:
    known: dict[str, Any] = {}
    for field in fields(ConnectorMetadata):
        text = metadata.get(field.name)
        if text is None:
            continue
        known[field.name] = text
        if field.type != str | None:
            known[field.name] = _parse_number(field.name, text)
    return ConnectorMetadata(**known)


def _parse_number(name: str, text: str) -> int:
    least = -1 if name == "llm_layer" else 1
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise EllaError(
            f"its metadata says {text!r} for {name}, expected a whole number from {least} on"
        )
    return number


def _unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Names without the prefixes of wrappers -> names in the file."""
    found: dict[str, str] = {}
    for name in names:
        key = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if key in found:
            raise EllaError(f"{key} is there twice, as {found[key]} and as {name}")
        found[key] = name
    return found


def _describe_foreign(shapes: Shapes) -> str:
    for part, what, where in _FOREIGN:
        if any(part in key for key in shapes):
            return f"this looks like {what} (it belongs in {where}), not an ELLA connector"
    example = f", the first named {min(shapes)!r}" if shapes else ""
    return f"it holds {len(shapes)} tensors{example}, none of them of an ELLA connector"


def _check_layout(connector: Connector, shapes: Shapes) -> None:
    expected = {key: tuple(t.shape) for key, t in _to_file_layout(connector.state_dict()).items()}
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


def _check_finite(state: Mapping[str, torch.Tensor]) -> None:
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            raise EllaError(f"{key} is stored as {tensor.dtype}, expected floating point")
        if not tensor.float().isfinite().all():
            raise EllaError(f"{key} holds NaN or infinite values")


def _from_file_layout(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    out = {}
    for file_key, tensor in state.items():
        key = file_key.removeprefix("connector.")
        block, packed, kind = key.partition("attn.in_proj_")
        if not packed:
            out[key] = tensor
            continue
        for layer, part in zip("qkv", tensor.chunk(3), strict=True):
            out[f"{block}attn.to_{layer}.{kind}"] = part
    return out


def _to_file_layout(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    out = {}
    for key, tensor in state.items():
        name = key if key.startswith("time_embedding.") else f"connector.{key}"
        if ".attn.to_q." in name:
            parts = [state[key.replace("to_q", f"to_{layer}")] for layer in "qkv"]
            out[name.replace("to_q.", "in_proj_")] = torch.cat(parts)
        elif ".attn.to_" not in name:
            out[name] = tensor
    return out


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    if path.suffix.lower() not in (".safetensors", ".sft"):
        raise EllaError(
            f"{path.name} is not a .safetensors file. Other formats can run code when opened and "
            f"are refused: convert it with safetensors.torch.save_file, or use {_RELEASED}."
        )
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise EllaError(f"There is no file {path}. Put {_RELEASED} there.") from error
    except OSError as error:
        raise EllaError(
            f"{path} can't be opened: {error}. Check that ComfyUI may read it and that there is "
            f"enough free memory, and queue again."
        ) from error
    except SafetensorError as error:
        raise EllaError(
            f"{path.name} cannot be read as safetensors ({error}). It holds "
            f"{path.stat().st_size:,} bytes and is probably cut short or damaged: delete it from "
            f"models/ella and download it again."
        ) from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of what went wrong, and the remedy behind it."""
    try:
        yield
    except EllaError as error:
        raise EllaError(
            f"{path.name} is not a usable ELLA connector: {error}. "
            f"Choose {_RELEASED} (from Hugging Face QQGYLab/ELLA) in Load ELLA."
        ) from None
