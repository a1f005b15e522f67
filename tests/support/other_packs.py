"""Node packs of others that some bundled workflows need, and small models for them.

They are no part of the repository. Where ELLA_OTHER_PACKS names a folder of such packs, these
workflows run with them. Where it doesn't, their nodes are bypassed, as the editor's Bypass does,
and what is left of the workflow runs. So are nodes that only newer versions of ComfyUI have.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from workflow import from_elsewhere

from .host import Host

#: SD1.5's channels, on which AnimateDiff insists, with cross-attention at the first of four levels.
_UNET: dict[str, Any] = {
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 0, 0, 0, 0, 0, 0],
    "transformer_depth_output": [1, 1, 1, *[0] * 9],
}
_LEVELS = (320, 640, 1280, 1280)
_FRAMES = 16
_IP_LAYERS = 16  # cross-attentions of SD1.5
_VISION_DIM = 768  # of CLIP-L's picture features


def missing(host: Host, workflow: dict[str, Any]) -> set[str]:
    """Types of nodes that this host doesn't have."""
    kinds = from_elsewhere(workflow)
    return {kind for kind in kinds if not host.server.get(f"/object_info/{kind}")}


def write_checkpoint(path: Path) -> None:
    from tiny_models import draw_checkpoint

    draw_checkpoint(path, dtype=torch.float16, **_UNET)


def write_motion(path: Path) -> None:
    """AnimateDiff's third motion module, of the way down alone."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for level, width in enumerate(_LEVELS):
        for number in range(2):
            prefix = f"down_blocks.{level}.motion_modules.{number}.temporal_transformer."
            state |= {prefix + k: t for k, t in _temporal(width, generator).items()}
    _save(state, path)


def _temporal(width: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    block, shapes = "transformer_blocks.0.", {}
    shapes |= {"proj_in": (width, width), "proj_out": (width, width)}
    for attention in range(2):
        name = f"{block}attention_blocks.{attention}"
        shapes |= {f"{name}.{part}": (width, width) for part in ("to_q", "to_k", "to_v")}
        shapes[f"{name}.to_out.0"] = (width, width)
    shapes |= {f"{block}ff.net.0.proj": (8 * width, width), f"{block}ff.net.2": (width, 4 * width)}
    state = {
        f"{name}.weight": torch.randn(shape, generator=generator) / shape[1] ** 0.5
        for name, shape in shapes.items()
    }
    biased = [name for name in shapes if "to_q" not in name and "to_k" not in name]
    biased = [name for name in biased if "to_v" not in name]
    state |= {f"{name}.bias": torch.zeros(shapes[name][0]) for name in biased}
    norms = ["norm", *(f"{block}norms.{i}" for i in range(2)), f"{block}ff_norm"]
    for name in norms:
        state |= {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
    for attention in range(2):
        key = f"{block}attention_blocks.{attention}.pos_encoder.pe"
        state[key] = torch.randn(1, 2 * _FRAMES, width, generator=generator)
    return state


def write_ipadapter(path: Path, width: int = 320) -> None:
    """An IPAdapter for the smallest U-Net, whose cross-attentions are all of one width."""
    generator = torch.Generator().manual_seed(0)
    tokens = 4 * 768
    state = {
        "image_proj.proj.weight": torch.randn(tokens, _VISION_DIM, generator=generator) / 28,
        "image_proj.proj.bias": torch.zeros(tokens),
        "image_proj.norm.weight": torch.ones(768),
        "image_proj.norm.bias": torch.zeros(768),
    }
    for layer in range(_IP_LAYERS):
        for part in ("to_k_ip", "to_v_ip"):
            key = f"ip_adapter.{2 * layer + 1}.{part}.weight"
            state[key] = torch.randn(width, 768, generator=generator) / 28
    _save(state, path)


def write_vision(path: Path) -> None:
    """CLIP-L's picture encoder, the smallest that ComfyUI knows: 300M parameters in 16 bit."""
    import tiny_models
    from bootstrap import host_dir

    tiny_models.import_host()
    import comfy.ops
    from comfy.clip_model import CLIPVisionModelProjection

    config = json.loads((host_dir() / "comfy/clip_vision_config_vitl.json").read_text())
    model = CLIPVisionModelProjection(config, torch.float32, "cpu", comfy.ops.disable_weight_init)
    tiny_models.draw(model, torch.Generator().manual_seed(0))
    _save(model.state_dict(), path)


def write_chat(path: Path) -> None:
    """Qwen 3 of 0.6B, with the 2 of its 28 layers that the tests' ComfyUI reads."""
    import tiny_models

    tiny_models.import_host()
    import comfy.ops
    from comfy.text_encoders.llama import Qwen3_06B

    layers = {"num_hidden_layers": 2}
    model = Qwen3_06B(layers, torch.float32, "cpu", comfy.ops.disable_weight_init)
    tiny_models.draw(model, torch.Generator().manual_seed(0))
    _save(model.state_dict(), path)


def _save(state: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.half().contiguous() for key, tensor in state.items()}, path)


#: Type of node -> what to choose where a workflow has it: widget, folder, name, how to make it.
_CHOSEN: dict[str, list[tuple[str, str, str, Callable[[Path], None]]]] = {
    "ADE_AnimateDiffLoaderGen1": [
        ("ckpt_name", "checkpoints", "sd15-for-motion.safetensors", write_checkpoint),
        ("model_name", "animatediff_models", "small-motion.safetensors", write_motion),
    ],
    "IPAdapterModelLoader": [
        ("ipadapter_file", "ipadapter", "small-ipadapter.safetensors", write_ipadapter),
        ("clip_name", "clip_vision", "small-vision.safetensors", write_vision),
    ],
    "TextGenerate": [("clip_name", "text_encoders", "small-chat.safetensors", write_chat)],
}


def choose(models: Path, workflow: dict[str, Any]) -> dict[str, str]:
    """Return widget -> name of a small model for what these nodes load; makes those models."""
    chosen = {}
    for kind in from_elsewhere(workflow):
        for widget, folder, name, write in _CHOSEN.get(kind, ()):
            chosen[widget] = name
            if not (models / folder / name).is_file():
                write(models / folder / name)
    return chosen
