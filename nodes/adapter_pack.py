"""The nodes of NeuroSenko/ComfyUI_LLM_SDXL_Adapter, so that graphs saved with it run as they are.

Ids, inputs and outputs are those of that pack. Its inputs that say where a model is to lie (device,
force_reload), what is read off an adapter's file (its type and sizes), and in which dtype an LLM
computes are accepted and ignored.
"""

from typing import Any

from comfy_api.latest import io

from ..ella_core.comfy.adapter_pack import adapt, read_as_gemma, read_as_t5gemma
from ..ella_core.comfy.llm.embeds import LLMEmbeds
from ..ella_core.comfy.llm.model import LLM
from ..ella_core.comfy.sampling.connector import ELLA
from ..ella_core.comfy.sampling.sdxl import Sizes, with_options
from ..ella_core.config import ADAPTER_RECIPES
from .adapter_pack_loaders import (
    LOADERS,
    UNUSED,
    AdapterType,
    ModelType,
    TokenizerType,
    info,
    schema,
)

FeaturesType = io.Custom("LLM_HIDDEN_STATES")
MaskType = io.Custom("LLM_ATTENTION_MASK")

_GEMMA = ADAPTER_RECIPES["gemma3_text"]


def _text() -> io.Input:
    return io.String.Input(
        "text",
        multiline=True,
        tooltip="The prompt, for the LLM. It is read as it stands, weights such as (word:1.2) "
        "included.",
    )


def _features() -> io.Output:
    return FeaturesType.Output(
        display_name="hidden_states", tooltip="The prompt as the LLM read it."
    )


class LLMTextEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            ModelType.Input("model", tooltip="From LLM Model Loader."),
            TokenizerType.Input("tokenizer", tooltip="From LLM Model Loader."),
            _text(),
            io.String.Input(
                "system_prompt",
                multiline=True,
                default=_GEMMA.system_prompt,
                optional=True,
                tooltip="What the system says in the LLM's chat template.",
            ),
            io.Int.Input(
                "skip_first",
                default=_GEMMA.skipped,
                min=0,
                max=100,
                optional=True,
                tooltip="Number of tokens in front that the adapter does not get.",
            ),
        ]
        node = "LLMTextEncoder", "LLM Text Encoder", "LLM Text Encode (ELLA)"
        return schema(*node, inputs, [_features(), info()])

    @classmethod
    def execute(
        cls,
        model: LLM,
        tokenizer: LLM,
        text: str,
        system_prompt: str = _GEMMA.system_prompt or "",
        skip_first: int = _GEMMA.skipped or 0,
    ) -> io.NodeOutput:
        embeds = read_as_gemma(model, text, system_prompt, skip_first)
        return io.NodeOutput(embeds, f"{embeds.tokens} tokens")


class T5GEMMATextEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            ModelType.Input("llm_model", tooltip="From T5Gemma Loader."),
            TokenizerType.Input("llm_tokenizer", tooltip="From T5Gemma Loader."),
            _text(),
            io.Int.Input(
                "max_length",
                default=512,
                min=8,
                max=4096,
                tooltip="Number of tokens that the prompt is cut or padded to, up to the adapter's "
                "own.",
            ),
            io.Combo.Input("device", options=["cpu", "cuda"], default="cuda", tooltip=UNUSED),
            io.Combo.Input(
                "dtype",
                options=["float32", "bfloat16"],
                default="bfloat16",
                tooltip="Ignored: bf16 on a GPU, fp32 on the CPU.",
            ),
        ]
        outputs = [
            _features(),
            MaskType.Output(display_name="attention_mask", tooltip="Which of it is padding."),
            info(),
        ]
        node = "T5GEMMATextEncoder", "T5Gemma Text Encoder", "LLM Text Encode (ELLA)"
        return schema(*node, inputs, outputs)

    @classmethod
    def execute(
        cls, llm_model: LLM, llm_tokenizer: LLM, text: str, max_length: int, **_: Any
    ) -> io.NodeOutput:
        embeds = read_as_t5gemma(llm_model, text, max_length)
        return io.NodeOutput(embeds, embeds, f"{embeds.tokens} tokens")


class ApplyLLMToSDXLAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            FeaturesType.Input("llm_hidden_states", tooltip="From LLM Text Encoder."),
            AdapterType.Input("llm_adapter", tooltip="From LLM Adapter Loader."),
        ]
        conditioning = io.Conditioning.Output(
            display_name="conditioning", tooltip="For a sampler, whose MODEL need not be patched."
        )
        node = "ApplyLLMToSDXLAdapter", "Apply LLM To SDXL Adapter", "ELLA Timestep Conditioning"
        return schema(*node, inputs, [conditioning, info()])

    @classmethod
    def execute(cls, llm_hidden_states: LLMEmbeds, llm_adapter: ELLA) -> io.NodeOutput:
        conditioning = adapt(llm_adapter, llm_hidden_states)
        shape = " x ".join(map(str, conditioning[0][0].shape))
        return io.NodeOutput(conditioning, f"context: {shape}")


class ApplyT5GemmaToSDXLAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        size = {"default": 1024, "min": 64, "max": 8192, "step": 8, "optional": True}
        crop = {"default": 0, "min": 0, "max": 8192, "optional": True}
        inputs = [
            FeaturesType.Input("llm_hidden_states", tooltip="From T5Gemma Text Encoder."),
            MaskType.Input("llm_attention_mask", tooltip="From T5Gemma Text Encoder."),
            AdapterType.Input("llm_adapter", tooltip="From LLM Adapter Loader."),
            io.Int.Input("width", **size, tooltip="Width of the original picture in pixels."),
            io.Int.Input("height", **size, tooltip="Height of the original picture in pixels."),
            io.Int.Input("target_width", **size, tooltip="Width of the picture to paint."),
            io.Int.Input("target_height", **size, tooltip="Height of the picture to paint."),
            io.Int.Input("crop_w", **crop, tooltip="Pixels cut off at the left."),
            io.Int.Input("crop_h", **crop, tooltip="Pixels cut off at the top."),
        ]
        conditioning = io.Conditioning.Output(
            display_name="CONDITIONING", tooltip="For a sampler, whose MODEL need not be patched."
        )
        node = "t5gemmaApplyLLMToSDXLAdapter", "Apply T5Gemma LLM to Adapter"
        return schema(*node, "ELLA Timestep Conditioning", inputs, [conditioning])

    @classmethod
    def execute(
        cls,
        llm_hidden_states: LLMEmbeds,
        llm_attention_mask: LLMEmbeds,
        llm_adapter: ELLA,
        **sizes: int,
    ) -> io.NodeOutput:
        conditioning = adapt(llm_adapter, llm_hidden_states)
        return io.NodeOutput(with_options(conditioning, Sizes(**sizes), None, 0))


NODES: list[Any] = [
    *LOADERS,
    LLMTextEncoder,
    T5GEMMATextEncoder,
    ApplyLLMToSDXLAdapter,
    ApplyT5GemmaToSDXLAdapter,
]
