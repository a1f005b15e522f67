"""An LLM's tensors as safetensors files hold them, ComfyUI's scaled fp8 among them."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..errors import EllaError

# Names of a layer's scale in ComfyUI: first the older layout, then that of late 2025.
_SCALES = ("scale_weight", "weight_scale")
# Tensors beside the weights that the computation here doesn't need: scales for activations in
# fp8, marks of the layout, and the tokenizer that ComfyUI keeps with the weights.
_BESIDE = {"scale_input", "input_scale", "comfy_quant", "scaled_fp8", "spiece_model"}
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def read_state(
    files: Iterable[Path], dtype: torch.dtype, skip: re.Pattern[str]
) -> dict[str, torch.Tensor]:
    """Read an LLM's tensors, scaled where a scale stands beside them.

    Args:
        files: safetensors files that hold the LLM together.
        dtype: dtype of the tensors returned.
        skip: names of tensors to leave out.

    Raises:
        EllaError: weights are quantised in an unknown way.
    """
    state: dict[str, torch.Tensor] = {}
    scales: dict[str, torch.Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118, it is no dict
                layer, _, last = name.rpartition(".")
                if last in _SCALES:
                    scales[f"{layer}.weight"] = opened.get_tensor(name)
                elif last == "comfy_quant":
                    _check_format(name, opened.get_tensor(name))
                elif last not in _BESIDE and not skip.search(name):
                    state[name] = _converted(opened, name, dtype)
    for name, scale in scales.items():
        if name in state:
            state[name] = _scaled(state[name], scale)
        elif not skip.search(name):
            raise EllaError(f"there is a scale for {name}, which is missing")
    return {name: tensor.to(dtype) for name, tensor in state.items()}


def _converted(opened: Any, name: str, dtype: torch.dtype) -> torch.Tensor:
    tensor: torch.Tensor = opened.get_tensor(name)
    if tensor.dtype in _FP8:
        return tensor  # until its scale is known
    if not tensor.is_floating_point():
        raise EllaError(
            f"{name} is stored as {tensor.dtype}: these weights are quantised in a way that is not "
            f"known here. Take weights in 16 bits, or a GGUF file"
        )
    return tensor.to(dtype, copy=True)  # a view of the file would change with it


def _scaled(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    if scale.numel() > 1:  # one for each row
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return weight.float() * scale.float()


def _check_format(name: str, mark: torch.Tensor) -> None:
    """Refuse formats of ComfyUI other than fp8 with one scale a tensor or a row."""
    described = bytes(mark.tolist())
    if not str(json.loads(described).get("format", "")).startswith("float8"):
        raise EllaError(
            f"{name} says {described.decode()}: only fp8 can be read. Take weights in fp8 or 16 "
            f"bits, or a GGUF file"
        )
