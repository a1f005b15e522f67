"""Encoding prompts with an LLM."""

from typing import Any

from comfy_api.latest import io

from ..ella_core.comfy.llm.model import LLM
from ..ella_core.config import CHUNK_TOKENS, LONG_PROMPT, ConnectorMetadata
from ..ella_core.errors import EllaError
from .types import CATEGORY, EmbedsType, LLMType, search_aliases


class ELLALLMTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLALLMTextEncode",
            **search_aliases("ELLALLMTextEncode"),
            display_name="LLM Text Encode (ELLA)",
            category=CATEGORY,
            description="Encodes a prompt with the LLM. Write whole sentences: who does what, "
            "where, and what each thing looks like. An empty prompt is the usual negative.",
            inputs=[
                LLMType.Input("llm", tooltip="From Load LLM (ELLA)."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt, of any length and in the LLM's languages. (words:1.3) "
                    "weighs words, from 0 to 10; \\( and \\) are plain parentheses. The "
                    f"released ELLA was trained on {ConnectorMetadata().trained_tokens} tokens.",
                ),
                io.Int.Input(
                    "max_length",
                    default=0,
                    min=0,
                    max=2048,
                    tooltip="0 (flexible) reads each prompt at its own length and is best. Else "
                    "the number of tokens that every prompt is cut or padded to.",
                ),
                io.Combo.Input(
                    "long_prompt",
                    options=list(LONG_PROMPT),
                    default="whole",
                    optional=True,
                    tooltip="For a prompt of more than max_length tokens, or more than "
                    f"{CHUNK_TOKENS} if that is 0. whole reads it in one go, cut off at "
                    "max_length. chunk cuts it at the ends of sentences into chunks that fit, "
                    "and reads each by itself: nothing is cut off, but the LLM can't relate one "
                    "chunk to another.",
                ),
            ],
            outputs=[
                EmbedsType.Output(
                    display_name="ELLA_LLM_EMBEDS",
                    tooltip="The encoded prompt, for ELLA Timestep Conditioning.",
                )
            ],
            not_idempotent=True,  # of two equal nodes each reports
        )

    @classmethod
    def execute(
        cls, llm: LLM, text: str, max_length: int, long_prompt: str = "whole"
    ) -> io.NodeOutput:
        if long_prompt not in LONG_PROMPT:  # ComfyUI 0.3.75 does not check it
            raise EllaError(
                f"long_prompt is {long_prompt!r}; set it to {' or '.join(LONG_PROMPT)} in LLM Text "
                f"Encode (ELLA)."
            )
        return io.NodeOutput(llm.encode(text, max_length, chunked=long_prompt == "chunk"))


NODES: list[Any] = [ELLALLMTextEncode]
