"""Loaders of the two models that ELLA adds to Stable Diffusion."""

from typing import Any

from comfy_api.latest import io

from ..ella_core.comfy.files import folders
from ..ella_core.comfy.llm.model import DTYPES, LLM
from ..ella_core.comfy.sampling.connector import load_ella
from .types import CATEGORY, EllaType, LLMType, search_aliases


class ELLALoad(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLALoad",
            display_name="Load ELLA",
            category=CATEGORY,
            description="Loads a connector, the small model that turns an LLM's features into "
            "context for Stable Diffusion. The released one is ella-sd1.5-tsc-t5xl.safetensors.",
            inputs=[
                io.Combo.Input(
                    "ella_name",
                    options=folders.connector_names(),
                    tooltip="Connector file from models/ella or models/llm_adapters, under any "
                    "name. Its type and size are read from its tensors.",
                )
            ],
            outputs=[
                EllaType.Output(
                    display_name="ELLA",
                    tooltip="The connector, for ELLA Timestep Conditioning.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, ella_name: str | None) -> bool | str:
        """Say where to get a file that is missing, before anything runs."""
        return folders.check_name(folders.connector_path, ella_name)

    @classmethod
    def fingerprint_inputs(cls, ella_name: str | None) -> str | None:
        """Load again if the file was replaced on the disk."""
        # None: the name comes from another node, and is not known yet.
        return ella_name and folders.file_identity(folders.connector_path(ella_name))

    @classmethod
    def execute(cls, ella_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_ella(folders.connector_path(ella_name)))


class ELLALoadLLM(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLALoadLLM",
            **search_aliases("ELLALoadLLM"),
            display_name="Load LLM (ELLA)",
            category=CATEGORY,
            description="Chooses the LLM that reads the prompts: a T5 encoder or a decoder-only "
            "LLM such as Llama. It must be the one that the connector was trained with; for the "
            "released ELLA that is the encoder of FLAN-T5-XL. Its weights are loaded when a "
            "prompt is not in the cache.",
            inputs=[
                io.Combo.Input(
                    "llm_name",
                    options=folders.llm_names(),
                    tooltip="A folder with config.json, safetensors weights and tokenizer, a GGUF "
                    "file, or ComfyUI's single file of a T5, UMT5, Qwen 3 or Gemma 3 1B, from "
                    "models/text_encoders, models/ella_encoder or models/LLM.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["auto", *DTYPES],
                    default="auto",
                    optional=True,
                    tooltip="Precision of the LLM. auto: fp16 on a GPU, as the released ELLA was "
                    "trained (bf16 for Gemma's family), and fp32 on the CPU. bf16 gives visibly "
                    "different pictures. fp8 and int8 store the weights in 8 bits and compute as "
                    "auto does.",
                ),
            ],
            outputs=[
                LLMType.Output(display_name="ELLA_LLM", tooltip="The LLM, for LLM Text Encode.")
            ],
        )

    @classmethod
    def validate_inputs(cls, llm_name: str | None) -> bool | str:
        """Say where to get a file that is missing, before anything runs."""
        return folders.check_name(folders.llm_path, llm_name)

    @classmethod
    def fingerprint_inputs(cls, llm_name: str | None, dtype: str | None = "auto") -> str | None:
        """Load again if the LLM's files were replaced on the disk."""
        return llm_name and folders.llm_identity(folders.llm_path(llm_name))

    @classmethod
    def execute(cls, llm_name: str, dtype: str = "auto") -> io.NodeOutput:
        return io.NodeOutput(LLM(llm_name, folders.llm_path(llm_name), dtype))


NODES: list[Any] = [ELLALoad, ELLALoadLLM]
