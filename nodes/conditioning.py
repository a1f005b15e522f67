"""From an LLM's reading to Stable Diffusion's conditioning."""

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..ella_core.comfy.conditioning import check_model, make_conditioning, patch_model
from ..ella_core.comfy.connector import ELLA
from ..ella_core.comfy.llm import LLMEmbeds
from .types import CATEGORY, EllaType, EmbedsType


class ELLATimestepConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLATimestepConditioning",
            display_name="ELLA Timestep Conditioning",
            category=CATEGORY,
            description="Conditions a Stable Diffusion model on what an LLM read. The connector "
            "is evaluated at the sigma of every model call, so any sampler, scheduler, step count "
            "and denoise is right by itself: nothing has to be set here.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Stable Diffusion 1.5 from Load Checkpoint. LoRA and other model "
                    "patches may come before or after this node.",
                ),
                EllaType.Input("ella", tooltip="From Load ELLA."),
                EmbedsType.Input("positive", tooltip="What to paint, from LLM Text Encode."),
                EmbedsType.Input(
                    "negative",
                    tooltip="What to avoid, from LLM Text Encode. Usually an empty prompt.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="MODEL",
                    tooltip="The model to sample with. ELLA conditionings need this one; all "
                    "other conditionings work with it as before.",
                ),
                io.Conditioning.Output(
                    display_name="positive",
                    tooltip="For a sampler, ControlNet, Set Area, Combine and all the others.",
                ),
                io.Conditioning.Output(
                    display_name="negative",
                    tooltip="For a sampler, ControlNet, Set Area, Combine and all the others.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model: ModelPatcher, ella: ELLA, positive: LLMEmbeds, negative: LLMEmbeds
    ) -> io.NodeOutput:
        check_model(model, ella)
        return io.NodeOutput(
            patch_model(model),
            make_conditioning(ella, positive),
            make_conditioning(ella, negative),
        )


NODES: list[Any] = [ELLATimestepConditioning]
