"""Loaders of NeuroSenko/ComfyUI_LLM_SDXL_Adapter, see `adapter_pack`."""

from functools import partial
from typing import Any

from comfy_api.latest import io

from ..ella_core.comfy.files import folders
from ..ella_core.comfy.llm.model import LLM
from ..ella_core.comfy.sampling.connector import load_ella
from .types import deprecated_schema

ModelType = io.Custom("LLM_MODEL")
TokenizerType = io.Custom("LLM_TOKENIZER")
AdapterType = io.Custom("LLM_ADAPTER")

UNUSED = "Ignored: ComfyUI decides where models lie."
_READ_OFF = "Ignored: read off the adapter's file."

#: A schema that says what to use instead.
schema = partial(deprecated_schema, "NeuroSenko/ComfyUI_LLM_SDXL_Adapter")


def info() -> io.Output:
    """Return the output that says what a node has done."""
    return io.String.Output(display_name="info", tooltip="For people.")


def _placing() -> list[io.Input]:
    devices = ["auto", "cuda:0", "cuda:1", "cpu"]
    return [
        io.Combo.Input("device", options=devices, default="auto", optional=True, tooltip=UNUSED),
        io.Boolean.Input("force_reload", default=False, optional=True, tooltip=UNUSED),
    ]


class _LoadsLLM(io.ComfyNode):
    """A loader of an LLM; ids differ by what that pack opened with them."""

    NODE = "", ""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            io.Combo.Input("model_name", options=folders.llm_names(), tooltip="The LLM."),
            *_placing(),
        ]
        outputs = [
            ModelType.Output(display_name="model", tooltip="The LLM."),
            TokenizerType.Output(display_name="tokenizer", tooltip="The LLM's own."),
            info(),
        ]
        return schema(*cls.NODE, "Load LLM (ELLA)", inputs, outputs)

    @classmethod
    def validate_inputs(cls, model_name: str | None) -> bool | str:
        """Say where to get a file that is missing, before anything runs."""
        return folders.check_name(folders.llm_path, model_name)

    @classmethod
    def fingerprint_inputs(cls, model_name: str | None, **_: Any) -> str | None:
        """Load again if the LLM's files were replaced on the disk."""
        return model_name and folders.llm_identity(folders.llm_path(model_name))

    @classmethod
    def execute(cls, model_name: str, **_: Any) -> io.NodeOutput:
        llm = LLM(model_name, folders.llm_path(model_name), "auto")
        return io.NodeOutput(llm, llm, f"{model_name}: loaded when a prompt needs it")


class LLMModelLoader(_LoadsLLM):
    NODE = "LLMModelLoader", "LLM Model Loader"


class LLMGGUFModelLoader(_LoadsLLM):
    NODE = "LLMGGUFModelLoader", "LLM GGUF Model Loader"


class T5GEMMALoader(_LoadsLLM):
    NODE = "T5GEMMALoader", "T5Gemma Loader"


class _LoadsAdapter(io.ComfyNode):
    """A loader of an adapter."""

    NODE = "", ""

    @classmethod
    def about(cls) -> list[io.Input]:
        """Return the inputs that say what the file itself says."""
        raise NotImplementedError

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = folders.connector_names()
        name = io.Combo.Input(
            "adapter_name", options=names, tooltip="Adapter file from models/llm_adapters."
        )
        adapter = AdapterType.Output(display_name="llm_adapter", tooltip="The adapter.")
        inputs = [name, *cls.about(), *_placing()]
        return schema(*cls.NODE, "Load ELLA", inputs, [adapter, info()])

    @classmethod
    def validate_inputs(cls, adapter_name: str | None) -> bool | str:
        """Say where to get a file that is missing, before anything runs."""
        return folders.check_name(folders.connector_path, adapter_name)

    @classmethod
    def fingerprint_inputs(cls, adapter_name: str | None, **_: Any) -> str | None:
        """Load again if the file was replaced on the disk."""
        return adapter_name and folders.file_identity(folders.connector_path(adapter_name))

    @classmethod
    def execute(cls, adapter_name: str, **_: Any) -> io.NodeOutput:
        ella = load_ella(folders.connector_path(adapter_name))
        width, context = ella.connector.llm_dim, ella.connector.context_dim
        return io.NodeOutput(ella, f"{adapter_name}: from features {width} wide to {context}")


class LLMAdapterLoader(_LoadsAdapter):
    NODE = "LLMAdapterLoader", "LLM Adapter Loader"

    @classmethod
    def about(cls) -> list[io.Input]:
        """Return the kind of adapter."""
        kinds = ["gemma", "t5gemma"]
        return [io.Combo.Input("type", options=kinds, default="gemma", tooltip=_READ_OFF)]


class LLMAdapterLoaderCustom(_LoadsAdapter):
    NODE = "LLMAdapterLoaderCustom", "LLM Adapter Loader Custom"

    @classmethod
    def about(cls) -> list[io.Input]:
        """Return its sizes."""
        sizes = {
            "llm_dim": (1152, 512, 4096),
            "sdxl_seq_dim": (2048, 1024, 4096),
            "sdxl_pooled_dim": (1280, 512, 2048),
            "target_seq_len": (308, 64, 1024),
            "n_wide_blocks": (2, 1, 8),
            "n_narrow_blocks": (3, 1, 8),
            "num_heads": (16, 4, 32),
        }
        dropout = {"default": 0.1, "min": 0.0, "max": 0.5, "step": 0.01}
        return [
            *(
                io.Int.Input(
                    name, default=default, min=low, max=high, optional=True, tooltip=_READ_OFF
                )
                for name, (default, low, high) in sizes.items()
            ),
            io.Float.Input("dropout", **dropout, optional=True, tooltip="Ignored: for training."),
        ]


LOADERS: list[Any] = [
    LLMModelLoader,
    LLMGGUFModelLoader,
    T5GEMMALoader,
    LLMAdapterLoader,
    LLMAdapterLoaderCustom,
]
