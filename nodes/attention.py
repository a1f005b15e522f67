"""Pictures of what a connector reads."""

from typing import Any

import torch
from comfy_api.latest import io

from ..ella_core.comfy.llm.embeds import LLMEmbeds
from ..ella_core.comfy.sampling.attention import attention_to_words
from ..ella_core.comfy.sampling.connector import ELLA
from .types import CATEGORY, EllaType, EmbedsType, search_aliases


class ELLAAttentionMap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLAAttentionMap",
            **search_aliases("ELLAAttentionMap"),
            display_name="ELLA Attention Map",
            category=CATEGORY,
            description="Shows when the connector attends to which word: Figure 8 of the paper for "
            "your prompt. Each row is a word, each column a timestep, from noise to picture. Needs "
            "the Python package matplotlib.",
            inputs=[
                EllaType.Input("ella", tooltip="From Load ELLA Models or Load ELLA."),
                EmbedsType.Input("embeds", tooltip="One prompt, from LLM Text Encode (ELLA)."),
                io.Int.Input(
                    "timesteps",
                    default=20,
                    min=2,
                    max=100,
                    optional=True,
                    tooltip="Number of timesteps, evenly from 999 (noise) to 0.",
                ),
                _number("block", 64),
                _number("head", 64),
                _number("latent", 1024),
            ],
            outputs=[
                io.Image.Output(
                    display_name="IMAGE",
                    tooltip="The heat map. Each row is in parts of the word's own maximum.",
                ),
                io.String.Output(
                    display_name="table",
                    tooltip="The attention itself as CSV: a line for each word, a column for each "
                    "timestep.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        ella: ELLA,
        embeds: LLMEmbeds,
        timesteps: int = 20,
        block: int = 0,
        head: int = 0,
        latent: int = 0,
    ) -> io.NodeOutput:
        from ..ella_core.heat_map import draw_heat_map

        at = torch.linspace(999, 0, timesteps).round().int().tolist()
        found = attention_to_words(ella, embeds, at, block, head, latent)
        title = f"{ella.name}: attention, each word in parts of its maximum"
        across = "timestep, from noise to picture"
        image = draw_heat_map(found.relative, found.words, at, title, across)
        return io.NodeOutput(image, found.table)


def _number(name: str, most: int) -> io.Input:
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=most,
        optional=True,
        tooltip=f"0: the average of all {name}s. Else the one {name} to look at, from 1 on.",
    )


NODES: list[Any] = [ELLAAttentionMap]
