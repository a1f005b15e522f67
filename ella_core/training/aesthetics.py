"""Aesthetic predictors: how beautiful people would find a picture, from 1 to 10.

The paper keeps pictures of LAION and COYO with a score over 6 (section 3.2), which is LAION's
predictor: linear layers on CLIP ViT-L/14's normalised embedding, with nothing between them
(github.com/christophschuhmann/improved-aesthetic-predictor).

Shapes: B pictures, D width of CLIP's embedding.
"""

import importlib
import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import EllaError
from ..vision import load

#: Pictures in RGB -> a score each.
Predictor = Callable[[Sequence[Image.Image]], Sequence[float]]


class ClipPredictor:
    """Linear layers on CLIP's embedding."""

    def __init__(self, clip: str, head: Path, device: torch.device) -> None:
        """Load CLIP and the layers.

        Args:
            clip: folder of a CLIP, or repository on the Hugging Face hub.
            head: the layers, a `.safetensors` or a state dict that `torch.save` wrote.
            device: where both compute.

        Raises:
            EllaError: one of them can't be opened, or they don't fit together.
        """
        loaded = load("CLIPVisionModelWithProjection", clip, "", str(device), "CLIPImageProcessor")
        self._model, self._processor = loaded.model, loaded.processor
        self._layers = _layers(head, self._model.config.projection_dim)
        for layer in self._layers:
            layer.to(device)

    def __call__(self, images: Sequence[Image.Image]) -> list[float]:
        """Score pictures."""
        inputs = self._processor(list(images), return_tensors="pt")
        with torch.inference_mode():
            pixels = inputs["pixel_values"].to(self._model.device, self._model.dtype)
            x_BD = F.normalize(self._model(pixels).image_embeds.float(), dim=-1)
            for layer in self._layers:
                x_BD = layer(x_BD)
        scores: list[float] = x_BD[:, 0].tolist()
        return scores


def custom_predictor(name: str, device: torch.device) -> Predictor:
    """Make a predictor of somebody else's.

    Args:
        name: `package.module:function` of a function that takes the device and returns one.
        device: where it should compute.

    Raises:
        EllaError: there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        make: Callable[[torch.device], Predictor] = getattr(
            importlib.import_module(module), function
        )
    except (ImportError, AttributeError, ValueError) as error:
        raise EllaError(
            f"There is no predictor {name}: {error}. Expected package.module:function, to be found "
            f"by Python (PYTHONPATH)."
        ) from error
    return make(device)


def _layers(path: Path, width: int) -> list[torch.nn.Linear]:
    state = _state(path)
    names = [key.removesuffix("weight") for key in state if key.endswith("weight")]
    names.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    shapes = [tuple(state[f"{name}weight"].shape) for name in names]
    chained = [shape[-1] for shape in shapes] == [width, *(shape[0] for shape in shapes[:-1])]
    if not names or not chained or shapes[-1][0] != 1:
        raise EllaError(
            f"{path} is no aesthetic predictor for this CLIP: expected linear layers from {width} "
            f"to 1, found {shapes}."
        )
    layers = []
    for name, (outputs, inputs) in zip(names, shapes, strict=True):
        layer = torch.nn.Linear(inputs, outputs)
        layer.load_state_dict({part: state[name + part] for part in ("weight", "bias")})
        layers.append(layer.float().requires_grad_(False))
    return layers


def _state(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError) as error:
        raise EllaError(f"The aesthetic predictor {path} can't be opened: {error}.") from error
    return state
