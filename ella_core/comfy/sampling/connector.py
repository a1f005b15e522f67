"""What travels on the ELLA wire: a connector that ComfyUI can load and evict."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.ops
import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher

from ...errors import EllaError
from ...store import ContextStore
from ..editor.events import send_report
from ..llm.model import LLMEmbeds
from ..memory import SharedPatcher

if TYPE_CHECKING:
    from ...connectors import Connector

logger = logging.getLogger("ella")


class ELLA:
    """A connector that ComfyUI moves between devices, and the contexts that it has computed.

    Attributes:
        name: the connector's file name.
        patcher: how ComfyUI moves it.
        store: its contexts of the prompts in use.
    """

    def __init__(self, name: str, patcher: ModelPatcher) -> None:
        self.name = name
        self.patcher = patcher
        self.store = ContextStore(self.connector, model_management.intermediate_device())

    @property
    def connector(self) -> "Connector":
        """The module, wherever ComfyUI keeps it at the moment."""
        connector: Connector = self.patcher.model
        return connector


def load_ella(path: Path) -> ELLA:
    """Open a connector for ComfyUI.

    On the CPU the weights are kept in float32, the dtype that they compute in. Elsewhere they keep
    the file's dtype, which halves the released connector's memory.
    """
    from ...checkpoint import load_connector  # not at ComfyUI's start

    device = model_management.get_torch_device()
    dtype = torch.float32 if model_management.is_device_cpu(device) else None
    connector = load_connector(path, comfy.ops.manual_cast, dtype)
    patcher = SharedPatcher(
        connector, load_device=device, offload_device=model_management.unet_offload_device()
    )
    return ELLA(path.name, patcher)


def check_features(ella: ELLA, embeds: LLMEmbeds) -> None:
    """Refuse an LLM that the connector was not trained with.

    Raises:
        EllaError: their widths differ; or another pack made what is on the ELLA wire.
    """
    if not isinstance(ella, ELLA):
        raise EllaError(
            f"The ELLA input got a {type(ella).__name__}, which another node pack made. Connect "
            f"Load ELLA of this pack to it."
        )
    found, expected = embeds.width, ella.connector.llm_dim
    if found != expected:
        wanted = "the FLAN-T5-XL encoder" if expected == 2048 else f"an LLM of width {expected}"
        raise EllaError(
            f"The LLM {embeds.llm} makes features {found} wide, but the connector {ella.name} "
            f"reads features {expected} wide. Choose {wanted} in Load LLM (ELLA), or the connector "
            f"that was trained with this LLM in Load ELLA."
        )
    _check_identity(ella, embeds)


def _check_identity(ella: ELLA, embeds: LLMEmbeds) -> None:
    """Refuse an LLM of the right width that the connector's metadata rule out."""
    known, found = ella.connector.metadata, embeds.identity
    if found and found.is_other_than(known.llm_type, known.llm_layers):
        expected = f"{known.llm_type or 'LLM'} of {known.llm_layers or 'unknown'} layers"
        raise EllaError(
            f"The LLM {embeds.llm} is a {found.model_type} of {found.layers} layers, but the "
            f"connector {ella.name} was trained with {known.llm or 'another LLM'}, a {expected}. "
            f"Choose that one in Load LLM (ELLA), or the connector that was trained with this LLM "
            f"in Load ELLA."
        )


def warn_of_length(ella: ELLA, embeds: LLMEmbeds) -> None:
    """Say that a prompt is longer than those that the connector was trained on."""
    trained = ella.connector.metadata.trained_tokens
    if embeds.tokens > trained:
        text = (
            f"{embeds.tokens:,} tokens: the connector {ella.name} was trained on {trained:,} and "
            f"has not seen longer prompts"
        )
        logger.warning("%s", text)
        send_report("long", text, connector=ella.name, tokens=embeds.tokens, trained=trained)
