"""What some of the bundled workflows need beside the miniature: CLIP, a LoRA, a ControlNet.

The miniature has never seen any of them. These have the right shapes and say nothing: CLIP's every
token is the one that stands for no prompt, and the other two change nothing.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .base import UNET, scene_tokens
from .shipping import CHECKPOINT, State

CHECKPOINT_WITH_CLIP = "ella-miniature-with-clip.safetensors"
CONTROLNET, LORA = "ella-miniature-controlnet.safetensors", "ella-miniature-lora.safetensors"


def install(models: Path) -> None:
    """Write them into a ComfyUI `models` folder that has the miniature, unless they are there."""
    checkpoints = models / "checkpoints"
    if not (checkpoints / CHECKPOINT_WITH_CLIP).is_file():
        clip = {f"cond_stage_model.transformer.{name}": t for name, t in _clip().items()}
        _write(load_file(checkpoints / CHECKPOINT) | clip, checkpoints / CHECKPOINT_WITH_CLIP)
    for folder, name, make in (("controlnet", CONTROLNET, _controlnet), ("loras", LORA, _lora)):
        if not (models / folder / name).is_file():
            _write(make(), models / folder / name)


def _clip() -> State:
    """Stable Diffusion's CLIP-L, the one size that ComfyUI knows."""
    import comfy.ops
    from comfy.clip_model import CLIPTextModel

    from bootstrap import host_dir

    config = json.loads((host_dir() / "comfy/sd1_clip_config.json").read_text(encoding="utf-8"))
    model = CLIPTextModel(config, torch.float16, "meta", comfy.ops.disable_weight_init)
    state = {n: torch.zeros(t.shape, dtype=torch.float16) for n, t in model.state_dict().items()}
    state["text_model.final_layer_norm.bias"] = scene_tokens(None)[0].half()
    return state


def _controlnet() -> State:
    from comfy.cldm.cldm import ControlNet

    unet = {k: v for k, v in UNET.items() if k not in ("out_channels", "transformer_depth_output")}
    net = ControlNet(hint_channels=3, **unet, device="meta")
    return {
        f"control_model.{name}": torch.zeros(tensor.shape, dtype=torch.float16)
        for name, tensor in net.state_dict().items()
    }


def _lora() -> State:
    name = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"
    return {
        f"{name}.lora_down.weight": torch.zeros(1, UNET["context_dim"]),
        f"{name}.lora_up.weight": torch.zeros(UNET["model_channels"], 1),
        f"{name}.alpha": torch.tensor(1.0),
    }


def _write(state: State, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(state, part)
    part.replace(path)
