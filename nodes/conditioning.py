"""Conditioning Stable Diffusion on prompts that an LLM has read."""

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..ella_core.comfy.editor.report import Report
from ..ella_core.comfy.llm.embeds import LLMEmbeds
from ..ella_core.comfy.sampling.conditioning import (
    Conditioning,
    make_conditioning,
    make_pair,
    patch_model,
)
from ..ella_core.comfy.sampling.connector import ELLA, check_model, read_for
from .types import CATEGORY, EllaType, EmbedsType

_MODEL_OUTPUT = "The model to sample with. ELLA conditionings need it; other conditionings "
_MODEL_OUTPUT += "work with it as before."
_CONDITIONING_OUTPUT = "For a sampler, ControlNet, Set Area, Combine and other nodes."


class ELLATimestepConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLATimestepConditioning",
            display_name="ELLA Timestep Conditioning",
            category=CATEGORY,
            description="Conditions a Stable Diffusion model on prompts that an LLM has read. "
            "The connector is evaluated at the sigma of every model call, so any sampler, "
            "scheduler, step count and denoise works without settings.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Stable Diffusion 1.5 from Load Checkpoint, or SDXL if the connector "
                    "is for it. LoRA and other model patches may come before or after this node.",
                ),
                EllaType.Input("ella", tooltip="From Load ELLA."),
                EmbedsType.Input("positive", tooltip="What to paint, from LLM Text Encode."),
                EmbedsType.Input(
                    "negative",
                    optional=True,
                    tooltip="What to avoid, from LLM Text Encode. Left open, it is the empty "
                    "prompt, the usual negative.",
                ),
                io.Conditioning.Input(
                    "clip_positive",
                    optional=True,
                    tooltip="CLIP's reading of the prompt, from CLIP Text Encode, added behind "
                    "ELLA's tokens: for LoRA trigger words and textual inversions. Needs "
                    "clip_negative too.",
                ),
                io.Conditioning.Input(
                    "clip_negative",
                    optional=True,
                    tooltip="CLIP's reading of the negative prompt, from CLIP Text Encode. Keep "
                    "it as long as clip_positive (up to 77 tokens each), or sampling takes two "
                    "model calls a step instead of one.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip=_MODEL_OUTPUT),
                io.Conditioning.Output(display_name="positive", tooltip=_CONDITIONING_OUTPUT),
                io.Conditioning.Output(display_name="negative", tooltip=_CONDITIONING_OUTPUT),
            ],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # of two equal nodes each reports
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        ella: ELLA,
        positive: LLMEmbeds,
        negative: LLMEmbeds | None = None,
        clip_positive: Conditioning | None = None,
        clip_negative: Conditioning | None = None,
    ) -> io.NodeOutput:
        negative = negative or positive.with_strength(0)
        positive.check_same_llm(negative)  # said rather than that the connector knows one alone
        positive, negative = read_for(ella, positive), read_for(ella, negative)
        clip = (clip_positive, clip_negative)
        report = Report(cls.hidden.unique_id, [("positive", positive), ("negative", negative)])
        pair = make_pair(ella, (positive, negative), clip, report)
        check_model(model.model, ella)
        return io.NodeOutput(patch_model(model), *pair)


class ELLAConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLAConditioning",
            display_name="ELLA Conditioning",
            category=CATEGORY,
            description="Makes one more conditioning from a prompt that an LLM has read: for "
            "regions, timestep ranges and further prompts. The sampler's MODEL must come through "
            "ELLA Timestep Conditioning or ELLA Patch Model.",
            inputs=[
                EllaType.Input("ella", tooltip="From Load ELLA."),
                EmbedsType.Input("embeds", tooltip="From LLM Text Encode."),
                io.Conditioning.Input(
                    "clip",
                    optional=True,
                    tooltip="CLIP's reading of the prompt, added behind ELLA's tokens. Its area, "
                    "mask, hooks and timestep range are kept.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    optional=True,
                    tooltip="0: the empty prompt. 1: the prompt. Above 1: overdriven.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="CONDITIONING", tooltip=_CONDITIONING_OUTPUT)
            ],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # of two equal nodes each reports
        )

    @classmethod
    def execute(
        cls,
        ella: ELLA,
        embeds: LLMEmbeds,
        strength: float = 1.0,
        clip: Conditioning | None = None,
    ) -> io.NodeOutput:
        mixed = read_for(ella, embeds.with_strength(strength))
        report = Report(cls.hidden.unique_id, [("", mixed)])
        return io.NodeOutput(make_conditioning(ella, mixed, clip, report))


class ELLAPatchModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLAPatchModel",
            display_name="ELLA Patch Model",
            category=CATEGORY,
            description="Prepares a MODEL for ELLA conditionings in graphs without ELLA Timestep "
            "Conditioning. It holds no weights, and applying it twice changes nothing.",
            inputs=[io.Model.Input("model", tooltip="Stable Diffusion 1.5 or SDXL.")],
            outputs=[io.Model.Output(display_name="MODEL", tooltip=_MODEL_OUTPUT)],
        )

    @classmethod
    def execute(cls, model: ModelPatcher) -> io.NodeOutput:
        return io.NodeOutput(patch_model(model))


class ELLABlendEmbeds(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLABlendEmbeds",
            display_name="ELLA Blend Embeds",
            category=CATEGORY,
            description="Averages two prompts. It averages the connector's outputs at every "
            "timestep.",
            inputs=[
                EmbedsType.Input("embeds_a", tooltip="From LLM Text Encode."),
                EmbedsType.Input(
                    "embeds_b", tooltip="From LLM Text Encode with the same LLM as embeds_a."
                ),
                io.Float.Input(
                    "factor",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="0: only embeds_a. 1: only embeds_b.",
                ),
            ],
            outputs=[
                EmbedsType.Output(
                    display_name="ELLA_LLM_EMBEDS",
                    tooltip="The blend, for ELLA Timestep Conditioning or ELLA Conditioning.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, embeds_a: LLMEmbeds, embeds_b: LLMEmbeds, factor: float = 0.5
    ) -> io.NodeOutput:
        return io.NodeOutput(embeds_a.blended_with(embeds_b, factor))


NODES: list[Any] = [ELLATimestepConditioning, ELLAConditioning, ELLAPatchModel, ELLABlendEmbeds]
