"""Reading prompts with an LLM."""

from typing import Any

from comfy_api.latest import io

from ..ella_core.comfy.feedback import show_on_node
from ..ella_core.comfy.llm import LLM, TRAINED_TOKENS
from .types import CATEGORY, EmbedsType, LLMType


class ELLATextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLATextEncode",
            display_name="LLM Text Encode (ELLA)",
            category=CATEGORY,
            description="Lets the LLM read a prompt. Write whole sentences: who does what, where, "
            "and what each thing looks like. An empty prompt is the usual negative.",
            inputs=[
                LLMType.Input("llm", tooltip="From Load LLM (ELLA)."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt, of any length and in the LLM's languages. The released "
                    f"ELLA was trained on {TRAINED_TOKENS} tokens.",
                ),
                io.Int.Input(
                    "max_length",
                    default=0,
                    min=0,
                    max=2048,
                    tooltip="0 (flexible) reads each prompt at its own length and is best. Else "
                    "the number of tokens that every prompt is cut or padded to.",
                ),
            ],
            outputs=[
                EmbedsType.Output(
                    display_name="ELLA_LLM_EMBEDS",
                    tooltip="The prompt as the LLM read it, for ELLA Timestep Conditioning.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, llm: LLM, text: str, max_length: int) -> io.NodeOutput:
        embeds, summary = llm.encode(text, max_length)
        show_on_node(cls.hidden.unique_id, summary)
        return io.NodeOutput(embeds)


NODES: list[Any] = [ELLATextEncode]
