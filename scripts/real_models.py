"""Finding released weights in a ComfyUI `models` folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

CONNECTOR = "ella-sd1.5-tsc-t5xl.safetensors"
LLM_WIDTH = 2048  # of FLAN-T5-XL

_UNET = "model.diffusion_model.input_blocks."
_CROSS_ATTENTION = f"{_UNET}1.1.transformer_blocks.0.attn2.to_k.weight"
_FIRST_CONVOLUTION = f"{_UNET}0.0.weight"


@dataclass
class Found:
    """Names as ComfyUI's dropdowns show them; None where there is none."""

    checkpoint: str | None = None
    connector: str | None = None
    llm: str | None = None


def find(models: Path) -> Found:
    """Look for an SD1.5 checkpoint, the released connector and the FLAN-T5-XL encoder."""
    checkpoints = sorted((models / "checkpoints").rglob("*.safetensors"))
    folders = [
        (root, config.parent)
        for root in (models / name for name in ("text_encoders", "clip", "ella_encoder", "LLM"))
        for config in sorted(root.rglob("config.json"))
        if config.parent != root and _is_t5_xl(config)
    ]
    return Found(
        next(
            (str(p.relative_to(models / "checkpoints")) for p in checkpoints if _is_sd15(p)), None
        ),
        CONNECTOR if (models / "ella" / CONNECTOR).is_file() else None,
        next((folder.relative_to(root).as_posix() for root, folder in folders), None),
    )


def _is_sd15(path: Path) -> bool:
    """Return whether this is an SD1.5 for text to image; inpainting ones take more channels."""
    try:
        with safe_open(path, framework="pt") as file:
            if not {_CROSS_ATTENTION, _FIRST_CONVOLUTION} <= set(file.keys()):
                return False
            width = file.get_slice(_CROSS_ATTENTION).get_shape()[1]
            channels = file.get_slice(_FIRST_CONVOLUTION).get_shape()[1]
            return (width, channels) == (768, 4)
    except (SafetensorError, OSError):
        return False


def _is_t5_xl(config: Path) -> bool:
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(content, dict) and (
        (content.get("model_type"), content.get("d_model")) == ("t5", LLM_WIDTH)
    )
