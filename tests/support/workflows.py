"""The bundled workflows, set to the tests' small models."""

import json
from pathlib import Path
from typing import Any

from bootstrap import ROOT
from workflow import set_widgets, widgets

from .host import T5, Host
from .models import add_clip

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
STEPS = 2
SMALLER = 4  # sizes and positions in pixels are divided by that
MEGAPIXELS = 0.02  # 144 x 144, where a node takes them

_WITH_CLIP = "sd15-with-clip.safetensors"
_CHOSEN = {
    "ckpt_name": "sd15.safetensors",
    "ella_name": "tsc.safetensors",
    "llm_name": T5,
    "control_net_name": "controlnet.safetensors",
    "lora_name": "lora.safetensors",
    "steps": STEPS,
}


def read(path: Path) -> dict[str, Any]:
    """A workflow as it is bundled."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def small(host: Host, path: Path) -> dict[str, Any]:
    """The same workflow with small models, small pictures and few steps; makes what it needs."""
    workflow = read(path)
    types = {node["type"] for node in workflow["nodes"]}
    set_widgets(workflow, **_CHOSEN)
    if "CLIPTextEncode" in types:
        set_widgets(workflow, ckpt_name=_WITH_CLIP)
        checkpoints = host.models / "checkpoints"
        if not (checkpoints / _WITH_CLIP).is_file():
            add_clip(checkpoints / _CHOSEN["ckpt_name"], checkpoints / _WITH_CLIP)
    for node in workflow["nodes"]:
        pixels = {k: v for k, v in widgets(node).items() if k in ("width", "height", "x", "y")}
        set_widgets({"nodes": [node]}, **{k: v // SMALLER for k, v in pixels.items()})
    set_widgets(workflow, megapixels=MEGAPIXELS)
    return workflow
