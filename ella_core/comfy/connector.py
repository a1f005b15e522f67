"""What travels on the ELLA wire: a connector that ComfyUI can load and evict."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.ops
import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher

from ..errors import EllaError
from .llm import LLMEmbeds
from .memory import SharedPatcher

if TYPE_CHECKING:
    from ..connectors import Connector

#: LLM tokens (and latents) times timesteps that go through the connector together. 16k of them
#: keep its largest intermediate at 200 MB for the released size.
_MAX_ROWS = 16_384


@dataclass(frozen=True)
class ELLA:
    """A connector and its patcher.

    Attributes:
        name: its file's name.
        patcher: how ComfyUI moves it between devices.
    """

    name: str
    patcher: ModelPatcher

    @property
    def connector(self) -> "Connector":
        """The module itself, wherever ComfyUI keeps it at the moment."""
        connector: Connector = self.patcher.model
        return connector

    @torch.no_grad()
    def tokens(self, embeds: LLMEmbeds, timesteps: list[int], device: torch.device) -> torch.Tensor:
        """The tokens of a prompt, or a mix of prompts, at several timesteps.

        Computed in float32 whatever dtype the weights are kept in: it is a small model, and
        what it makes steers the whole picture.

        Args:
            embeds: what the LLM has read.
            timesteps: DDPM timesteps, 0-999.
            device: where to compute.

        Returns:
            (len(timesteps), N, W) float32 on ComfyUI's intermediate device.
        """
        parts = [w * self._tokens(features, timesteps, device) for features, w in embeds.parts]
        if len({part.shape for part in parts}) > 1:
            raise EllaError(
                f"The connector {self.name} makes as many tokens as a prompt has, so prompts of "
                f"different length can't be mixed: use a strength of 1, and Conditioning (Combine) "
                f"instead of Blend Embeds."
            )
        return torch.stack(parts).sum(0).to(model_management.intermediate_device())

    def _tokens(
        self, features: torch.Tensor, timesteps: list[int], device: torch.device
    ) -> torch.Tensor:
        features = features.to(device=device, dtype=torch.float32)
        rows = max(1, _MAX_ROWS // (features.shape[1] + 64))
        out = [
            self.connector(features, torch.tensor(timesteps[i : i + rows], device=device))
            for i in range(0, len(timesteps), rows)
        ]
        return torch.cat(out)


def load_ella(path: Path) -> ELLA:
    """Open a connector for ComfyUI.

    On the CPU the weights are kept in the float32 that is computed in, elsewhere in the file's
    dtype, which for the released one halves its memory.
    """
    from ..checkpoint import load_connector  # not at ComfyUI's start

    device = model_management.get_torch_device()
    dtype = torch.float32 if model_management.is_device_cpu(device) else None
    connector, _ = load_connector(path, comfy.ops.manual_cast, dtype)
    patcher = SharedPatcher(
        connector, load_device=device, offload_device=model_management.unet_offload_device()
    )
    return ELLA(path.name, patcher)


def check_features(ella: ELLA, embeds: LLMEmbeds) -> None:
    """Refuse an LLM that the connector was not made for.

    Raises:
        EllaError: their widths differ.
    """
    found, expected = embeds.width, ella.connector.llm_dim
    if found != expected:
        wanted = "the FLAN-T5-XL encoder" if expected == 2048 else f"an LLM of width {expected}"
        raise EllaError(
            f"The LLM {embeds.llm} makes features {found} wide, but the connector {ella.name} "
            f"reads features {expected} wide. Choose {wanted} in Load LLM (ELLA), or the connector "
            f"that was trained with this LLM in Load ELLA."
        )
