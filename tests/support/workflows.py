"""The bundled workflows, set to the tests' small models."""

import json
from pathlib import Path
from typing import Any

from bootstrap import ROOT
from workflow import bypass, set_widgets, widgets

from . import other_packs
from .host import T5, Host
from .llms import write_qwen
from .models import add_clip
from .sdxl import ADAPTER, CHECKPOINT, GEMMA, WITH_CLIPS, write_with_clips

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
STEPS = 2
SMALLER = {False: 4, True: 16}  # for SDXL: sizes and positions in pixels are divided by that
PIXELS = ("width", "height", "x", "y", "tile_width", "tile_height")
FRAMES = 4
MEGAPIXELS = 0.02  # 144 x 144, where a node takes them

_CHAT = "chat"
_WITH_CLIP = "sd15-with-clip.safetensors"
_CHOSEN = {
    "ckpt_name": "sd15.safetensors",
    "ella_name": "tsc.safetensors",
    "llm_name": T5,
    "control_net_name": "controlnet.safetensors",
    "lora_name": "lora.safetensors",
    "steps": STEPS,
    "tokens": 8,
}
_CHOSEN_SDXL = {**_CHOSEN, "ckpt_name": CHECKPOINT, "ella_name": ADAPTER, "llm_name": GEMMA}


def read(path: Path) -> dict[str, Any]:
    """A workflow as it is bundled."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def is_sdxl(path: Path) -> bool:
    """Whether a workflow is for SDXL. `small` then needs `sdxl.models`."""
    return path.stem.startswith("ella-sdxl")


def with_clip(host: Host) -> str:
    """The small checkpoint with a CLIP in it, made when it is first asked for."""
    checkpoints = host.models / "checkpoints"
    if not (checkpoints / _WITH_CLIP).is_file():
        add_clip(checkpoints / _CHOSEN["ckpt_name"], checkpoints / _WITH_CLIP)
    return _WITH_CLIP


def chat_llm(host: Host) -> str:
    """A small chat LLM, made when it is first asked for."""
    if not (host.models / "LLM" / _CHAT).is_dir():
        write_qwen(host.models / "LLM" / _CHAT)
    return _CHAT


def small(host: Host, path: Path) -> dict[str, Any]:
    """The same workflow with small models, small pictures and few steps; makes what it needs.

    Nodes that this host doesn't have are bypassed.
    """
    workflow, sdxl = read(path), is_sdxl(path)
    absent = other_packs.missing(host, workflow)
    bypass(workflow, absent)
    reads_clip = any(kind == "CLIP" for *_, kind in workflow["links"])
    set_widgets(workflow, **(_CHOSEN_SDXL if sdxl else _CHOSEN))
    chats = [node for node in workflow["nodes"] if node.get("title", "").startswith("Chat LLM")]
    if chats:
        set_widgets({"nodes": chats}, llm_name=chat_llm(host))
    if reads_clip and sdxl:
        write_with_clips(host)
        set_widgets(workflow, ckpt_name=WITH_CLIPS)
    elif reads_clip:
        set_widgets(workflow, ckpt_name=with_clip(host))
    if not absent:
        set_widgets(workflow, **other_packs.choose(host.models, workflow))
    for node in workflow["nodes"]:
        pixels = {k: v for k, v in widgets(node).items() if k in PIXELS}
        set_widgets({"nodes": [node]}, **{k: v // SMALLER[sdxl] for k, v in pixels.items()})
        if node["type"] == "TextGenerate":
            set_widgets({"nodes": [node]}, max_length=_CHOSEN["tokens"])
        if widgets(node).get("batch_size", 1) > FRAMES:
            set_widgets({"nodes": [node]}, batch_size=FRAMES)
    set_widgets(workflow, megapixels=MEGAPIXELS)
    return workflow
