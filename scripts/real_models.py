"""Finding released weights in a ComfyUI `models` folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

CONNECTOR = "ella-sd1.5-tsc-t5xl.safetensors"
LLM_WIDTH = 2048  # of FLAN-T5-XL

_CROSS_ATTENTION = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@dataclass
class Found:
    """Names as ComfyUI's dropdowns show them; None where there is none."""

    checkpoint: str | None = None
    connector: str | None = None
    llm: str | None = None


def find(models: Path) -> Found:
    """Look for an SD1.5 checkpoint, the released connector and the FLAN-T5-XL encoder."""
    checkpoints = sorted((models / "checkpoints").rglob("*.safetensors"))
    configs = [
        (root, config)
        for root in (models / "text_encoders", models / "ella_encoder", models / "LLM")
        for config in sorted(root.rglob("config.json"))
    ]
    return Found(
        next(
            (str(p.relative_to(models / "checkpoints")) for p in checkpoints if _is_sd15(p)), None
        ),
        CONNECTOR if (models / "ella" / CONNECTOR).is_file() else None,
        next((c.parent.relative_to(root).as_posix() for root, c in configs if _is_t5_xl(c)), None),
    )


def _is_sd15(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return _CROSS_ATTENTION in file.keys() and (  # noqa: SIM118
                file.get_slice(_CROSS_ATTENTION).get_shape()[1] == 768
            )
    except (SafetensorError, OSError):
        return False


def _is_t5_xl(config: Path) -> bool:
    content = json.loads(config.read_text(encoding="utf-8"))
    return content.get("model_type") == "t5" and content.get("d_model") == LLM_WIDTH
