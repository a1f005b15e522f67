"""A prompt from its words to conditionings in one node, and a loader of both models."""

from pathlib import Path
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from comfy_api.latest import io

from ..ella_core.comfy.editor.report import Report
from ..ella_core.comfy.files import folders
from ..ella_core.comfy.files.preset import AUTO, choose_connector, choose_llm
from ..ella_core.comfy.llm.model import DTYPES, LLM
from ..ella_core.comfy.sampling.conditioning import Conditioning, make_pair, patch_model
from ..ella_core.comfy.sampling.connector import ELLA, check_model, load_ella, read_for
from ..ella_core.errors import EllaError
from .types import CATEGORY, EllaType, LLMType, search_aliases


class ELLALoadModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLALoadModels",
            **search_aliases("ELLALoadModels"),
            display_name="Load ELLA Models",
            category=CATEGORY,
            description="Loads a connector and chooses the LLM that belongs to it: Load ELLA and "
            "Load LLM (ELLA) in one node.",
            inputs=[
                io.Combo.Input(
                    "ella_name",
                    options=[AUTO, *folders.connector_names()],
                    default=AUTO,
                    optional=True,
                    tooltip="Connector file from models/ella or models/llm_adapters. auto: the "
                    "only one that is installed.",
                ),
                io.Combo.Input(
                    "llm_name",
                    options=[AUTO, *folders.llm_names()],
                    default=AUTO,
                    optional=True,
                    tooltip="The LLM that reads the prompts, as in Load LLM (ELLA). auto: the only "
                    "one that is installed, or the only one that the connector can read.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["auto", *DTYPES],
                    default="auto",
                    optional=True,
                    tooltip="Precision of the LLM, as in Load LLM (ELLA).",
                ),
            ],
            outputs=[
                EllaType.Output(display_name="ELLA", tooltip="The connector, for ELLA Prompt."),
                LLMType.Output(display_name="ELLA_LLM", tooltip="The LLM, for ELLA Prompt."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, ella_name: str | None = AUTO, llm_name: str | None = AUTO
    ) -> bool | str:
        """Say what is missing, or what there is to choose from, before anything runs."""
        if ella_name is None or llm_name is None:  # it comes from another node
            return True
        try:
            _paths(ella_name, llm_name)
        except EllaError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(
        cls,
        ella_name: str | None = AUTO,
        llm_name: str | None = AUTO,
        dtype: str | None = "auto",
    ) -> str | None:
        """Load again if a file was replaced on the disk, or auto stands for another one."""
        if ella_name is None or llm_name is None:
            return None
        ella, llm = _paths(ella_name, llm_name)
        return f"{folders.file_identity(ella)}\n{folders.llm_identity(llm)}"

    @classmethod
    def execute(
        cls, ella_name: str = AUTO, llm_name: str = AUTO, dtype: str = "auto"
    ) -> io.NodeOutput:
        connector, llm_path = _paths(ella_name, llm_name)
        llm = LLM(choose_llm(llm_name, ella_name), llm_path, dtype)
        return io.NodeOutput(load_ella(connector), llm)


class ELLAPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLAPrompt",
            **search_aliases("ELLAPrompt"),
            display_name="ELLA Prompt",
            category=CATEGORY,
            description="Conditions Stable Diffusion on what you write: LLM Text Encode and ELLA "
            "Timestep Conditioning in one node, with CLIP beside ELLA if you connect it. Any "
            "sampler, scheduler, step count and denoise works without settings.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Stable Diffusion 1.5 from Load Checkpoint, or SDXL if the connector "
                    "is for it. LoRA and other model patches may come before or after this node.",
                ),
                EllaType.Input("ella", tooltip="From Load ELLA Models or Load ELLA."),
                LLMType.Input("llm", tooltip="From Load ELLA Models or Load LLM (ELLA)."),
                _text(
                    "positive",
                    "What to paint, in whole sentences, for the LLM. (words:1.3) weighs words, "
                    "from 0 to 10; \\( and \\) are plain parentheses.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Left open, ELLA works alone. From Load Checkpoint or a LoRA loader, "
                    "CLIP reads the prompt too and its tokens follow ELLA's: for community "
                    "checkpoints, LoRA trigger words and textual inversions.",
                ),
                _text(
                    "clip_text",
                    "What CLIP reads as the positive. Empty: the same as the LLM. Needs clip.",
                    optional=True,
                    default="",
                ),
                _text(
                    "negative",
                    "What to avoid, for the LLM, and for CLIP if it is connected. Empty is usual.",
                    optional=True,
                    default="",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="The model to sample with."),
                io.Conditioning.Output(
                    display_name="positive", tooltip="For a sampler, ControlNet and other nodes."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="For a sampler, ControlNet and other nodes."
                ),
            ],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # of two equal nodes each reports
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        ella: ELLA,
        llm: LLM,
        positive: str,
        clip_text: str = "",
        negative: str = "",
        **connected: CLIP | None,  # clip, which is None where its loader found no CLIP
    ) -> io.NodeOutput:
        clip = connected.get("clip")
        # Numbers of ELLA XY Values come as such.
        positive, clip_text, negative = map(str, (positive, clip_text, negative))
        if "clip" in connected and clip is None:
            raise EllaError(
                "clip is connected, and what it comes from has no CLIP: the checkpoint holds the "
                "U-Net alone. Connect Load CLIP or another checkpoint's CLIP to clip in ELLA "
                "Prompt, or leave it open."
            )
        if clip is None and clip_text:
            raise EllaError(
                "clip_text is for CLIP, and no CLIP is connected. Connect the CLIP of Load "
                "Checkpoint to clip in ELLA Prompt, or empty clip_text."
            )
        check_model(model.model, ella)  # before anything is read, which may take long
        # The count of the positive is what the node shows, so it is read last.
        avoided = read_for(ella, llm.encode(negative, 0))
        wanted = read_for(ella, llm.encode(positive, 0))
        beside: tuple[Conditioning | None, Conditioning | None] = (None, None)
        if clip is not None:
            beside = _read_by_clip(clip, clip_text or positive), _read_by_clip(clip, negative)
        report = Report(cls.hidden.unique_id, [("positive", wanted), ("negative", avoided)])
        pair = make_pair(ella, (wanted, avoided), beside, report)
        return io.NodeOutput(patch_model(model), *pair)


def _text(name: str, tooltip: str, **options: Any) -> io.Input:
    return io.String.Input(name, multiline=True, dynamic_prompts=True, tooltip=tooltip, **options)


def _paths(ella_name: str, llm_name: str) -> tuple[Path, Path]:
    """Return the files of both models.

    Raises:
        EllaError: see `preset` and `folders`.
    """
    connector = folders.connector_path(choose_connector(ella_name))
    return connector, folders.llm_path(choose_llm(llm_name, ella_name))


def _read_by_clip(clip: CLIP, text: str) -> Conditioning:
    """Return what CLIP Text Encode makes of a text."""
    conditioning: Conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return conditioning


NODES: list[Any] = [ELLALoadModels, ELLAPrompt]
