"""The nodes of TencentQQGYLab/ComfyUI-ELLA, so that graphs saved with that pack run as they are.

Ids, inputs and outputs are those of that pack. Its inputs that describe the sampler (sigmas,
scheduler, steps, denoise) are accepted and ignored.
"""

from functools import partial
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.samplers import SCHEDULER_NAMES
from comfy.sd import CLIP
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..ella_core.comfy.files import folders
from ..ella_core.comfy.llm.model import LLM
from ..ella_core.comfy.official import OfficialEmbeds, TextEncoderSettings
from ..ella_core.comfy.sampling.conditioning import Conditioning, patch_model
from ..ella_core.comfy.sampling.connector import ELLA, check_model, load_ella
from ..ella_core.errors import EllaError
from .types import EllaType, deprecated_schema

OfficialEmbedsType = io.Custom("ELLA_EMBEDS")
TextEncoderType = io.Custom("T5_TEXT_ENCODER")

_UNUSED = "Ignored: the sigmas come from the sampler."
_ELLA = "From Load ELLA."
_TEXT_ENCODER = "From Load T5 TextEncoder #ELLA."
_TEXT = "The prompt, for the LLM. Weights such as (word:1.2) are ignored."
_CLIP = "CONDITIONING from CLIP Text Encode, whose tokens follow ELLA's."
_JOINING = "clip of ELLA Conditioning"


_schema = partial(deprecated_schema, "TencentQQGYLab/ComfyUI-ELLA")


def _embeds_input(name: str) -> io.Input:
    return OfficialEmbedsType.Input(name, tooltip="From T5 Text Encode #ELLA.")


def _embeds_output() -> io.Output:
    return OfficialEmbedsType.Output(
        display_name="ELLA_EMBEDS", tooltip="For Apply ELLA or ELLA Encode."
    )


def _conditioning(name: str) -> io.Output:
    tooltip = "For a sampler, whose MODEL need not be patched."
    return io.Conditioning.Output(display_name=name, tooltip=tooltip)


def _text(name: str, tooltip: str, **options: Any) -> io.Input:
    return io.String.Input(name, multiline=True, dynamic_prompts=True, tooltip=tooltip, **options)


def _sigmas() -> io.Input:
    return io.Sigmas.Input("sigmas", optional=True, tooltip=_UNUSED)


class ELLALoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = folders.connector_names()
        name = io.Combo.Input("name", options=names, tooltip="Connector file from models/ella.")
        ella = EllaType.Output(display_name="ELLA", tooltip="The connector.")
        return _schema("ELLALoader", "Load ELLA Model", "Load ELLA", [name], [ella])

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        """Say where to get a file that is missing, before anything runs."""
        return folders.check_name(folders.connector_path, name)

    @classmethod
    def fingerprint_inputs(cls, name: str | None) -> str | None:
        """Load again if the file was replaced on the disk."""
        return name and folders.file_identity(folders.connector_path(name))

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        return io.NodeOutput(load_ella(folders.connector_path(name)))


class T5TextEncoderLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            io.Combo.Input("name", options=folders.llm_names(), tooltip="The LLM's folder."),
            io.Int.Input(
                "max_length",
                default=0,
                min=0,
                max=128,
                step=16,
                tooltip="0: each prompt at its own length.",
            ),
            io.Combo.Input(
                "dtype", options=["auto", "FP32", "FP16"], tooltip="Precision of the LLM."
            ),
        ]
        text_encoder = TextEncoderType.Output(display_name="T5_TEXT_ENCODER", tooltip="The LLM.")
        node = "T5TextEncoderLoader #ELLA", "Load T5 TextEncoder #ELLA", "Load LLM (ELLA)"
        return _schema(*node, inputs, [text_encoder])

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        """Say where to get a file that is missing, before anything runs."""
        return folders.check_name(folders.llm_path, name)

    @classmethod
    def fingerprint_inputs(
        cls, name: str | None, max_length: int | None, dtype: str | None
    ) -> str | None:
        """Load again if the LLM's files were replaced on the disk."""
        return name and folders.llm_identity(folders.llm_path(name))

    @classmethod
    def execute(cls, name: str, max_length: int, dtype: str) -> io.NodeOutput:
        llm = LLM(name, folders.llm_path(name), dtype.lower())
        return io.NodeOutput(TextEncoderSettings(llm, max_length))


class T5TextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            _text("text", _TEXT),
            TextEncoderType.Input("text_encoder", tooltip=_TEXT_ENCODER),
            OfficialEmbedsType.Input(
                "embeds", optional=True, tooltip="CLIP's tokens, to be joined with these."
            ),
        ]
        node = "T5TextEncode #ELLA", "T5 Text Encode #ELLA", "LLM Text Encode (ELLA)"
        return _schema(*node, inputs, [_embeds_output()])

    @classmethod
    def execute(
        cls, text: str, text_encoder: TextEncoderSettings, embeds: OfficialEmbeds | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput((embeds or OfficialEmbeds()).updated_with(text_encoder.encode(text)))


class EllaTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            EllaType.Input("ella", tooltip=_ELLA),
            TextEncoderType.Input("text_encoder", tooltip=_TEXT_ENCODER),
            _text("text", _TEXT),
            io.Clip.Input("clip", optional=True, tooltip="Reads text_clip."),
            _text("text_clip", "The prompt, for CLIP. Needs clip.", default="", optional=True),
        ]
        outputs = [
            _conditioning("CONDITIONING"),
            io.Conditioning.Output(display_name="CLIP CONDITIONING", tooltip="Only with clip."),
        ]
        node = "EllaTextEncode", "ELLA Text Encode", "ELLA Conditioning"
        return _schema(*node, inputs, outputs)

    @classmethod
    def execute(
        cls,
        ella: ELLA,
        text_encoder: TextEncoderSettings,
        text: str,
        clip: CLIP | None = None,
        text_clip: str = "",
    ) -> io.NodeOutput:
        if clip is None and text_clip:
            raise EllaError("text_clip needs a CLIP: connect one to clip, or empty the text.")
        embeds = text_encoder.encode(text)
        if clip is None:
            nothing = ExecutionBlocker("ELLA Text Encode got no CLIP: connect one to its clip.")
            return io.NodeOutput(embeds.conditioning(ella), nothing)
        alone = clip.encode_from_tokens_scheduled(clip.tokenize(text_clip))
        joined = embeds.updated_with(OfficialEmbeds(clip=alone))
        return io.NodeOutput(joined.conditioning(ella), alone)


class EllaEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [EllaType.Input("ella", tooltip=_ELLA), _embeds_input("embeds")]
        node = "EllaEncode", "ELLA Encode", "ELLA Conditioning"
        return _schema(*node, inputs, [_conditioning("CONDITIONING")])

    @classmethod
    def execute(cls, ella: ELLA, embeds: OfficialEmbeds) -> io.NodeOutput:
        return io.NodeOutput(embeds.conditioning(ella))


class EllaApply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            io.Model.Input("model", tooltip="Stable Diffusion 1.5."),
            EllaType.Input("ella", tooltip=_ELLA),
            _embeds_input("positive"),
            _embeds_input("negative"),
            _sigmas(),
        ]
        outputs = [
            io.Model.Output(display_name="model", tooltip="The model to sample with."),
            _conditioning("positive"),
            _conditioning("negative"),
        ]
        return _schema("EllaApply", "Apply ELLA", "ELLA Timestep Conditioning", inputs, outputs)

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        ella: ELLA,
        positive: OfficialEmbeds,
        negative: OfficialEmbeds,
        sigmas: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        conditionings = [embeds.conditioning(ella) for embeds in (positive, negative)]
        check_model(model.model, ella)
        return io.NodeOutput(patch_model(model), *conditionings)


class SetEllaTimesteps(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            io.Model.Input("model", tooltip=_UNUSED),
            EllaType.Input("ella", tooltip=_ELLA),
            io.Combo.Input("scheduler", options=SCHEDULER_NAMES, tooltip=_UNUSED),
            io.Int.Input("steps", default=20, min=1, max=10000, tooltip=_UNUSED),
            io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=_UNUSED),
            _sigmas(),
        ]
        ella = EllaType.Output(display_name="ELLA", tooltip="The same connector.")
        return _schema("SetEllaTimesteps", "Set ELLA Timesteps", "left out", inputs, [ella])

    @classmethod
    def execute(cls, ella: ELLA, **_: Any) -> io.NodeOutput:
        return io.NodeOutput(ella)


class EllaCombineEmbeds(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [_embeds_input("embeds"), _embeds_input("embeds_add")]
        node = "EllaCombineEmbeds", "ELLA Combine Embeds"
        return _schema(*node, _JOINING, inputs, [_embeds_output()])

    @classmethod
    def execute(cls, embeds: OfficialEmbeds, embeds_add: OfficialEmbeds) -> io.NodeOutput:
        return io.NodeOutput(embeds.updated_with(embeds_add))


class ConditionToEllaEmbeds(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        cond = io.Conditioning.Input("cond", tooltip=_CLIP)
        node = "ConditionToEllaEmbeds", "Convert Condition to ELLA Embeds"
        return _schema(*node, _JOINING, [cond], [_embeds_output()])

    @classmethod
    def execute(cls, cond: Conditioning) -> io.NodeOutput:
        return io.NodeOutput(OfficialEmbeds(clip=cond))


class CombineClipEllaEmbeds(io.ComfyNode):
    NODE = "CombineClipEllaEmbeds", "Combine CLIP & ELLA Embeds"

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [io.Conditioning.Input("cond", tooltip=_CLIP), _embeds_input("embeds")]
        return _schema(*cls.NODE, _JOINING, inputs, [_embeds_output()])

    @classmethod
    def execute(cls, cond: Conditioning, embeds: OfficialEmbeds) -> io.NodeOutput:
        return io.NodeOutput(OfficialEmbeds(clip=cond).updated_with(embeds))


class ConcatConditionEllaEmbeds(CombineClipEllaEmbeds):
    NODE = "ConcatConditionEllaEmbeds", "Concat Condition & ELLA Embeds"


NODES: list[Any] = [
    ELLALoader,
    T5TextEncoderLoader,
    T5TextEncode,
    EllaTextEncode,
    EllaEncode,
    EllaApply,
    SetEllaTimesteps,
    EllaCombineEmbeds,
    CombineClipEllaEmbeds,
    ConcatConditionEllaEmbeds,
    ConditionToEllaEmbeds,
]
