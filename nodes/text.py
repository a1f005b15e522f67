"""Encoding prompts with an LLM."""

from typing import Any

from comfy_api.latest import io

from ..ella_core.comfy.llm.model import LLM, TemplatedLLM
from ..ella_core.config import (
    ADAPTER_RECIPES,
    CHUNK_TOKENS,
    LONG_PROMPT,
    PROMPT_MARK,
    SYSTEM_MARK,
    ConnectorMetadata,
    PromptTemplate,
)
from ..ella_core.errors import EllaError
from .types import CATEGORY, EmbedsType, LLMType, search_aliases

_SYSTEM_PROMPT = ADAPTER_RECIPES["gemma3_text"].system_prompt or ""


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
                LLMType.Input("llm", tooltip="From Load LLM (ELLA) or ELLA Prompt Template."),
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
                    optional=True,
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
        cls, llm: LLM | TemplatedLLM, text: str, max_length: int = 0, long_prompt: str = "whole"
    ) -> io.NodeOutput:
        if long_prompt not in LONG_PROMPT:  # ComfyUI 0.3.75 does not check it
            raise EllaError(
                f"long_prompt is {long_prompt!r}; set it to {' or '.join(LONG_PROMPT)} in LLM Text "
                f"Encode (ELLA)."
            )
        return io.NodeOutput(llm.encode(text, max_length, chunked=long_prompt == "chunk"))


class ELLAPromptTemplate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLAPromptTemplate",
            **search_aliases("ELLAPromptTemplate"),
            display_name="ELLA Prompt Template",
            category=CATEGORY,
            description="Puts a system prompt or a template of your own around every prompt that "
            "the LLM reads. Left out, the LLM reads as the connector was trained, which is best "
            "for most prompts.",
            inputs=[
                LLMType.Input("llm", tooltip="From Load LLM (ELLA)."),
                io.String.Input(
                    "system_prompt",
                    multiline=True,
                    default=_SYSTEM_PROMPT,
                    optional=True,
                    tooltip="What the system says in the LLM's chat template.",
                ),
                io.String.Input(
                    "template",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip=f"Takes the chat template's place: any text with {PROMPT_MARK} where "
                    f"the prompt is to stand, and {SYSTEM_MARK} for the system prompt. Empty is "
                    f"the LLM's own chat template; {PROMPT_MARK} alone is no template.",
                ),
                io.Int.Input(
                    "skip_tokens",
                    default=-1,
                    min=-1,
                    max=2048,
                    optional=True,
                    tooltip="Number of tokens in front that the connector does not get. -1: all "
                    "in front of the prompt.",
                ),
            ],
            outputs=[
                LLMType.Output(
                    display_name="ELLA_LLM",
                    tooltip="The LLM with this template, for LLM Text Encode.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        llm: LLM | TemplatedLLM,
        system_prompt: str = _SYSTEM_PROMPT,
        template: str = "",
        skip_tokens: int = -1,
    ) -> io.NodeOutput:
        return io.NodeOutput(llm.within(PromptTemplate.of(system_prompt, template, skip_tokens)))


NODES: list[Any] = [ELLALLMTextEncode, ELLAPromptTemplate]
