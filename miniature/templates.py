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
#: What fits the miniature, in place of the values that a template compares.
_VALUES = {"cfg": "1\n2.5\n4"}
#: The colour that the inpainting template repaints.
_MARK = 16754390


def adapt(path: Path, llm_name: str) -> dict[str, Any]:
    """Return a bundled workflow set to the miniature and its `extras`.

    Its prompts are captions of held-out scenes, others than those of the other workflows.
    """
    from workflow import set_widgets, widgets

    workflow: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    types = {node["type"] for node in workflow["nodes"]}
    reads_clip = any(kind == "CLIP" for *_, kind in workflow["links"])
    checkpoint = CHECKPOINT_WITH_CLIP if reads_clip else CHECKPOINT
    set_widgets(workflow, ckpt_name=checkpoint, ella_name=CONNECTOR, llm_name=llm_name)
    set_widgets(workflow, control_net_name=CONTROLNET, lora_name=LORA)
    sampling = {k: v for k, v in SAMPLING.items() if k not in ("width", "height")}
    set_widgets(workflow, **sampling, megapixels=_MEGAPIXELS)
    set_widgets(workflow, image=_MARKED if "ImageColorToMask" in types else _PICTURE)
    first = 100 * _paths().index(path)
    for number, node in enumerate(workflow["nodes"], first):
        values = widgets(node)
        pixels = {k: v for k, v in values.items() if k in ("width", "height", "x", "y")}
        scaled = {k: v * PIXELS // _TEMPLATE_PIXELS for k, v in pixels.items()}
        set_widgets({"nodes": [node]}, **scaled)
        prompts = {k: _captions(number, values[k]) for k in ("text", "positive") if values.get(k)}
        if prompts:
            set_widgets({"nodes": [node]}, **prompts)
        elif values.get("x_name") in _VALUES:
            set_widgets({"nodes": [node]}, x_values=_VALUES[values["x_name"]])
        elif node["type"] == "PrimitiveStringMultiline":
            set_widgets({"nodes": [node]}, value=_captions(number, values["value"]))
    return workflow


def _captions(number: int, text: str) -> str:
    """Return as many captions as a text has prompts, a line each; `number` is that of the first."""
    prompts = [line for line in text.splitlines() if line and not line.startswith("#")]
    numbers = range(number, number + len(prompts))
    return "\n".join(caption(draw_scene(i, "new"), i) for i in numbers)


def adapt_all(llm_name: str) -> dict[str, dict[str, Any]]:
    """Return file name -> workflow of all that the miniature can run.

    That leaves out those for SDXL, and those with nodes that not every ComfyUI has.
    """
    return {path.stem: adapt(path, llm_name) for path in _paths() if "sdxl" not in path.stem}


def _paths() -> list[Path]:
    """Return the workflows whose nodes every supported ComfyUI has."""
    from workflow import from_elsewhere

    found = sorted(WORKFLOW.parent.glob("*.json"))
    return [path for path in found if not from_elsewhere(json.loads(path.read_text("utf-8")))]


def write_inputs(folder: Path) -> None:
    """Write the pictures that the adapted workflows load."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = (paint(draw_scene(0, "new"), 0) * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(folder / _PICTURE)
    pixels[CELL : 2 * CELL, CELL : 2 * CELL] = np.frombuffer(_MARK.to_bytes(3, "big"), np.uint8)
    Image.fromarray(pixels).save(folder / _MARKED)
