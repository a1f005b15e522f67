"""Read a U-Net's dimensions off the tensors of a single-file checkpoint, for diffusers.

The keys are those of the original Stable Diffusion code, as ComfyUI keeps them:
`input_blocks`, `middle_block`, `output_blocks`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import EllaError

Shapes = Mapping[str, tuple[int, ...]]

#: Where a single-file checkpoint keeps the U-Net.
UNET_PREFIX = "model.diffusion_model."

# Width of the context and of the vector beside the timestep (0 for none).
_FAMILIES = {(768, 0): "sd15", (2048, 2816): "sdxl"}


@dataclass(frozen=True)
class _Level:
    """The blocks of one resolution: width and transformer depth of each, 0 for no transformer."""

    width: int
    depths: list[int]


def family_of(shapes: Shapes) -> str:
    """Tell `sd15` or `sdxl` by the widths of the context and of the label embedding.

    Args:
        shapes: name -> shape of the U-Net's tensors, without prefix.

    Raises:
        EllaError: it is neither.
    """
    context = next((s[1] for k, s in shapes.items() if k.endswith("attn2.to_k.weight")), 0)
    vector = shapes.get("label_emb.0.0.weight", (0, 0))[1]
    family = _FAMILIES.get((context, vector))
    if family is None:
        raise EllaError(
            f"its U-Net takes a context of width {context} and a vector of width {vector}; "
            f"expected 768 and none (SD1.5) or 2048 and 2816 (SDXL)"
        )
    return family


def unet_config(shapes: Shapes) -> dict[str, Any]:
    """Make the arguments of diffusers' `UNet2DConditionModel`.

    Args:
        shapes: name -> shape of the U-Net's tensors, without prefix.

    Raises:
        EllaError: neither SD1.5 nor SDXL, or a shape that diffusers can't express.
    """
    sdxl = family_of(shapes) == "sdxl"
    down, up = _levels(shapes, "input_blocks"), _levels(shapes, "output_blocks")
    widths = [level.width for level in down]
    middle = _depth(shapes, "middle_block.1")
    return {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": tuple(widths),
        "layers_per_block": _blocks_per_level(down, up),
        "down_block_types": tuple(_block_type("Down", level) for level in down),
        "mid_block_type": _middle_type(shapes, middle),
        "up_block_types": tuple(_block_type("Up", level) for level in up),
        "transformer_layers_per_block": _down_depths(down, middle),
        "reverse_transformer_layers_per_block": [_some(level.depths) for level in up],
        "cross_attention_dim": 2048 if sdxl else 768,
        # diffusers' name for the number of heads.
        "attention_head_dim": tuple(w // 64 for w in widths) if sdxl else 8,
        "use_linear_projection": _projects_linearly(shapes),
        **(_SDXL_VECTOR if sdxl else {}),
    }


def absent_transformers(shapes: Shapes) -> list[str]:
    """Name the transformers that diffusers builds and the checkpoint lacks.

    diffusers gives every block of a level a transformer or none; a checkpoint may mix them.
    """
    return [
        f"{side}_blocks.{level_number}.attentions.{number}"
        for side, part in (("down", "input_blocks"), ("up", "output_blocks"))
        for level_number, level in enumerate(_levels(shapes, part))
        for number, depth in enumerate(level.depths)
        if not depth and any(level.depths)
    ]


_SDXL_VECTOR = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def _levels(shapes: Shapes, part: str) -> list[_Level]:
    """Cut the blocks into resolutions: a level ends with its down- or upsampler."""
    count = 1 + max(int(k.split(".")[1]) for k in shapes if k.startswith(f"{part}."))
    levels, depths = [], []
    for i in range(count):
        block = f"{part}.{i}"
        width = shapes.get(f"{block}.0.out_layers.3.weight", (0,))[0]
        if width:
            depths.append(_depth(shapes, f"{block}.1"))
            level = _Level(width, depths)
        resamplers = (f"{block}.0.op.weight", f"{block}.1.conv.weight", f"{block}.2.conv.weight")
        if depths and (i == count - 1 or any(key in shapes for key in resamplers)):
            levels.append(level)
            depths = []
    return levels


def _depth(shapes: Shapes, transformer: str) -> int:
    pattern = re.compile(re.escape(transformer) + r"\.transformer_blocks\.(\d+)\.")
    return len({found[1] for found in map(pattern.match, shapes) if found})


def _blocks_per_level(down: list[_Level], up: list[_Level]) -> int:
    counts = {len(level.depths) for level in down} | {len(level.depths) - 1 for level in up}
    if len(counts) != 1:
        raise EllaError("the levels of its U-Net have different numbers of blocks")
    return counts.pop()


def _block_type(direction: str, level: _Level) -> str:
    return f"{'CrossAttn' if any(level.depths) else ''}{direction}Block2D"


def _middle_type(shapes: Shapes, depth: int) -> str | None:
    if depth:
        return "UNetMidBlock2DCrossAttn"
    has_middle = any(key.startswith("middle_block.") for key in shapes)
    return "UNetMidBlock2D" if has_middle else None


def _down_depths(down: list[_Level], middle: int) -> list[list[int]]:
    """Depths by level; diffusers reads the middle block's off the last level."""
    depths = [_some(level.depths) for level in down]
    if middle and not any(depths[-1]):  # that level has no transformer itself
        depths[-1] = [middle] * len(depths[-1])
    elif middle and depths[-1][0] != middle:
        raise EllaError(
            f"the middle of its U-Net has {middle} transformer layers and the level before it "
            f"{depths[-1][0]}, which diffusers can't express"
        )
    return depths


def _some(depths: list[int]) -> list[int]:
    """At least one layer everywhere, which `absent_transformers` takes away again."""
    return [max(1, depth) for depth in depths]


def _projects_linearly(shapes: Shapes) -> bool:
    keys = (k for k in shapes if k.endswith(".proj_in.weight"))
    return len(shapes[next(keys)]) == 2
