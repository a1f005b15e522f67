"""The bundled workflows with the miniature chosen: its models, sizes, words and pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .captions import caption
from .evaluation import SAMPLING, WORKFLOW
from .extras import CHECKPOINT_WITH_CLIP, CONTROLNET, LORA
from .shipping import CHECKPOINT, CONNECTOR
from .world import CELL, PIXELS, draw_scene, paint

_PICTURE, _MARKED = "ella-miniature.png", "ella-miniature-marked.png"
_TEMPLATE_PIXELS = 512
#: The least that the node takes; the VAE cuts off what is more than PIXELS.
_MEGAPIXELS = 0.01
#: The colour that the inpainting template repaints.
_MARK = 16754390


def adapt(path: Path, llm_name: str) -> dict[str, Any]:
    """Return a bundled workflow set to the miniature and its `extras`."""
    from workflow import set_widgets, widgets

    workflow: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    types = {node["type"] for node in workflow["nodes"]}
    checkpoint = CHECKPOINT_WITH_CLIP if "CLIPTextEncode" in types else CHECKPOINT
    set_widgets(workflow, ckpt_name=checkpoint, ella_name=CONNECTOR, llm_name=llm_name)
    set_widgets(workflow, control_net_name=CONTROLNET, lora_name=LORA)
    sampling = {k: v for k, v in SAMPLING.items() if k not in ("width", "height")}
    set_widgets(workflow, **sampling, megapixels=_MEGAPIXELS)
    set_widgets(workflow, image=_MARKED if "ImageColorToMask" in types else _PICTURE)
    for number, node in enumerate(workflow["nodes"]):
        values = widgets(node)
        pixels = {k: v for k, v in values.items() if k in ("width", "height", "x", "y")}
        scaled = {k: v * PIXELS // _TEMPLATE_PIXELS for k, v in pixels.items()}
        set_widgets({"nodes": [node]}, **scaled)
        text = caption(draw_scene(number, "new"), number)
        prompts = {k: text for k in ("text", "positive") if values.get(k)}
        if prompts:
            set_widgets({"nodes": [node]}, **prompts)
        elif node["type"] == "PrimitiveStringMultiline":
            set_widgets({"nodes": [node]}, value=text)
    return workflow


def adapt_all(llm_name: str) -> dict[str, dict[str, Any]]:
    """Return file name -> workflow of all for Stable Diffusion 1.5, which the miniature is."""
    paths = sorted(WORKFLOW.parent.glob("*.json"))
    return {path.stem: adapt(path, llm_name) for path in paths if "sdxl" not in path.stem}


def write_inputs(folder: Path) -> None:
    """Write the pictures that the adapted workflows load."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = (paint(draw_scene(0, "new"), 0) * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(folder / _PICTURE)
    pixels[CELL : 2 * CELL, CELL : 2 * CELL] = np.frombuffer(_MARK.to_bytes(3, "big"), np.uint8)
    Image.fromarray(pixels).save(folder / _MARKED)
