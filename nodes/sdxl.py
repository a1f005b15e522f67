"""SDXL's pooled embedding, sizes and crop."""

from typing import Any

from comfy_api.latest import io

from nodes import MAX_RESOLUTION

from ..ella_core.comfy.sampling.conditioning import Conditioning
from ..ella_core.comfy.sampling.sdxl import Sizes, with_options
from .types import CATEGORY, search_aliases


def _size(name: str, tooltip: str) -> io.Input:
    return io.Int.Input(name, default=0, min=0, max=MAX_RESOLUTION, optional=True, tooltip=tooltip)


class ELLASDXLOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLASDXLOptions",
            **search_aliases("ELLASDXLOptions"),
            display_name="ELLA SDXL Options",
            category=CATEGORY,
            description="Sets what SDXL reads beside the tokens: sizes, crop, and how much of the "
            "pooled embedding is CLIP's. Left out, SDXL gets the connector's pooled embedding and "
            "the latent's size without a crop.",
            inputs=[
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="From ELLA Timestep Conditioning, ELLA Conditioning or any other node.",
                ),
                io.Conditioning.Input(
                    "clip",
                    optional=True,
                    tooltip="CLIP's reading of the prompt, from CLIP Text Encode with the CLIP of "
                    "the SDXL checkpoint. Only its pooled embedding is used.",
                ),
                io.Float.Input(
                    "clip_pooled",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much of the pooled embedding is CLIP's: 0 keeps ELLA's, 1 takes "
                    "CLIP's. Without clip it has no effect.",
                ),
                _size("width", "Width of the original picture in pixels. 0: the latent's."),
                _size("height", "Height of the original picture in pixels. 0: the latent's."),
                _size("crop_w", "Pixels cut off at the left."),
                _size("crop_h", "Pixels cut off at the top."),
                _size("target_width", "Width of the picture to paint in pixels. 0: as width."),
                _size("target_height", "Height of the picture to paint in pixels. 0: as height."),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="CONDITIONING",
                    tooltip="The same conditioning with these settings.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        conditioning: Conditioning,
        clip: Conditioning | None = None,
        clip_pooled: float = 1.0,
        **sizes: int,
    ) -> io.NodeOutput:
        return io.NodeOutput(with_options(conditioning, Sizes(**sizes), clip, clip_pooled))


NODES: list[Any] = [ELLASDXLOptions]
