"""The type on the ELLA wire: a connector that ComfyUI can load and evict."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.ops
import torch
from comfy import model_management
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_base import SDXL
from comfy.model_patcher import ModelPatcher

from ...config import LLM_NAMES, MODEL_NAMES
from ...errors import EllaError
from ...store import ContextStore
from ..llm.embeds import LLMEmbeds
from ..memory import SharedPatcher

if TYPE_CHECKING:
    from ...connectors import Connector

# Contexts that a run may hold on a GPU: 340 of the released connector's, which are 17 prompts at
# 20 timesteps. Further ones are copied there at each call.
_ROOM = 64 * 2**20


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
        self.store = ContextStore(self.connector, model_management.intermediate_device(), _ROOM)

    @property
    def connector(self) -> "Connector":
        """The module, wherever ComfyUI keeps it at the moment."""
        connector: Connector = self.patcher.model
        return connector

    def get_ram_usage(self) -> int:
        """Return the connector's bytes, by which ComfyUI's --cache-ram chooses what to evict."""
        size: int = self.patcher.model_size()
        return size


def load_ella(path: Path) -> ELLA:
    """Open a connector for ComfyUI.

    On the CPU the weights are kept in float32, the dtype that they compute in. Elsewhere they keep
    the file's dtype, which halves the released connector's memory.
    """
    from ...checkpoint import load_connector  # not at ComfyUI's start

    device = model_management.get_torch_device()
    on_cpu = model_management.is_device_cpu(device)
    connector = load_connector(path, comfy.ops.manual_cast, torch.float32 if on_cpu else None)
    patcher = SharedPatcher(
        connector,
        load_device=device,
        offload_device=model_management.unet_offload_device(),
        # ComfyUI keeps this much memory free for it.
        size=model_management.module_size(connector) + (0 if on_cpu else _ROOM),
    )
    return ELLA(path.name, patcher)


def _check_ours(ella: object) -> None:
    """Refuse what another pack has put on the ELLA wire, which has the same name there."""
    if not isinstance(ella, ELLA):
        raise EllaError(
            f"The ELLA input got a {type(ella).__name__}, which another node pack made. Connect "
            f"Load ELLA of this pack to it."
        )


def check_features(ella: ELLA, embeds: LLMEmbeds) -> None:
    """Refuse an LLM that the connector was not trained with.

    Raises:
        EllaError: their widths differ; or another pack made what is on the ELLA wire.
    """
    _check_ours(ella)
    found, expected = embeds.width, ella.connector.llm_dim
    if found != expected:
        wanted = LLM_NAMES.get(expected, f"an LLM of width {expected}")
        raise EllaError(
            f"The LLM {embeds.llm} makes features {found} wide, but the connector {ella.name} "
            f"reads features {expected} wide. Choose {wanted} in Load LLM (ELLA), or the connector "
            f"that was trained with this LLM in Load ELLA."
        )
    _check_identity(ella, embeds)


def read_for(ella: ELLA, embeds: LLMEmbeds) -> LLMEmbeds:
    """Return the prompts as the connector wants them read; mostly they are so already.

    Raises:
        EllaError: see `check_features`, and `LLMEmbeds.under`.
    """
    check_features(ella, embeds)
    llm = embeds.identity
    return embeds.under(ella.connector.recipe(llm.model_type if llm else None))


def _check_identity(ella: ELLA, embeds: LLMEmbeds) -> None:
    """Refuse an LLM of the right width that the connector's metadata rule out.

    A name decides nothing: the same LLM lies in folders and files of many names.
    """
    known, found = ella.connector.metadata, embeds.identity
    if found and known.llm_layer not in (None, -1, found.layers):
        raise EllaError(
            f"The connector {ella.name} was trained on hidden layer {known.llm_layer} of its LLM, "
            f"and Load LLM (ELLA) gives the last one. Choose another connector in Load ELLA."
        )
    if found and found.is_other_than(known.llm_type, known.llm_layers):
        expected = f"{known.llm_type or 'LLM'} of {known.llm_layers or 'unknown'} layers"
        raise EllaError(
            f"The LLM {embeds.llm} is a {found.model_type} of {found.layers} layers, but the "
            f"connector {ella.name} was trained with {known.llm or 'another LLM'}, a {expected}. "
            f"Choose that one in Load LLM (ELLA), or the connector that was trained with this LLM "
            f"in Load ELLA."
        )


def check_model(model: Any, ella: ELLA) -> None:
    """Refuse a BaseModel (what a MODEL patches) that the connector was not trained for.

    Raises:
        EllaError: not a U-Net with cross-attention, or one of another width; or another pack made
            what is on the ELLA wire.
    """
    _check_ours(ella)
    expected = ella.connector.context_dim
    wanted = MODEL_NAMES.get(expected, f"a U-Net of width {expected}")
    unet = getattr(model.diffusion_model, "_orig_mod", model.diffusion_model)  # torch.compile's
    if not isinstance(unet, UNetModel):
        raise EllaError(
            f"The MODEL is a {type(model).__name__}, which is no U-Net with cross-attention: "
            f"ELLA can't condition it. Load {wanted} in Load Checkpoint."
        )
    found = model.model_config.unet_config.get("context_dim")
    if found != expected:
        raise EllaError(
            f"The MODEL ({type(model).__name__}) reads text {found} wide, but the connector "
            f"{ella.name} makes tokens {expected} wide. Load {wanted} in Load Checkpoint, or a "
            f"connector of width {found} in Load ELLA."
        )


def check_pooled(model: Any, ella: ELLA, pooled: torch.Tensor | None) -> None:
    """Refuse a conditioning without the pooled embedding that an SDXL reads beside its context.

    Raises:
        EllaError: it has none, or one of another width.
    """
    if not isinstance(model, SDXL):
        return
    # Behind it are six numbers (sizes and crops), each embedded.
    expected = model.model_config.unet_config["adm_in_channels"] - 6 * model.embedder.dim
    found = None if pooled is None else pooled.shape[-1]
    if found != expected:
        made = ella.connector.pooled_dim
        raise EllaError(
            f"The MODEL ({type(model).__name__}) reads a pooled embedding {expected} wide beside "
            f"the context, and the connector {ella.name} makes {'none' if made is None else made}. "
            f"Connect the same model's CLIP to clip in ELLA Prompt, or its CLIP Text Encode to "
            f"clip_positive and clip_negative in ELLA Timestep Conditioning, or choose a "
            f"connector with an attention pool in Load ELLA."
        )
