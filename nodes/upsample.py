"""Prompts that an LLM writes."""

from typing import Any

from comfy_api.latest import io

from ..ella_core.comfy.llm.model import LLM
from .types import CATEGORY, LLMType, search_aliases


class ELLAUpsamplePrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLAUpsamplePrompt",
            **search_aliases("ELLAUpsamplePrompt"),
            display_name="ELLA Upsample Prompt",
            category=CATEGORY,
            description="Has a chat LLM make three to five sentences of a short prompt, with "
            "colours, shapes and places: ELLA was trained on such captions. It shows the text "
            "while it is written, and the same seed gives the same text.",
            inputs=[
                LLMType.Input(
                    "llm",
                    tooltip="A chat LLM from a Load LLM (ELLA) of its own, such as "
                    "SmolLM2-Instruct or Qwen: a folder or GGUF file with a chat template. Not the "
                    "T5 that reads the prompts.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What the picture shows, in a few words.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=True,
                    optional=True,
                    tooltip="Another seed gives another text.",
                ),
                io.Int.Input(
                    "tokens",
                    default=160,
                    min=1,
                    max=2048,
                    optional=True,
                    tooltip="The most that it writes. A sentence that they cut off is left out. "
                    "The released ELLA was trained on 128 tokens.",
                ),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="What to do with the text, with examples. Empty: this node's own "
                    "instruction, which the help page shows.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="STRING",
                    tooltip="The sentences, for the text of LLM Text Encode (ELLA) or ELLA Prompt.",
                )
            ],
            not_idempotent=True,  # of two equal nodes each reports
        )

    @classmethod
    def execute(
        cls, llm: LLM, text: str, seed: int = 0, tokens: int = 160, instruction: str = ""
    ) -> io.NodeOutput:
        from ..ella_core.text_encoders.writer import INSTRUCTION

        return io.NodeOutput(llm.write(instruction or INSTRUCTION, str(text), seed, tokens))


NODES: list[Any] = [ELLAUpsamplePrompt]
