"""The interface that every connector has."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import nn


class Operations(Protocol):
    """The layers a connector is built from: `torch.nn`, or a host's own versions of them."""

    @property
    def Linear(self) -> Any: ...  # noqa: N802

    @property
    def LayerNorm(self) -> Any: ...  # noqa: N802


class Connector(nn.Module, ABC):
    """Maps an LLM's last hidden state to tokens for a U-Net's cross-attention.

    Attributes:
        llm_dim: width of the features it takes.
        width: width of the tokens it makes.
        timestep_aware: whether the tokens depend on the timestep.
        num_tokens: how many tokens it makes of any prompt; None for as many as the prompt has.
    """

    llm_dim: int
    width: int
    timestep_aware: bool
    num_tokens: int | None

    @abstractmethod
    def forward(
        self,
        llm_features: torch.Tensor,
        timestep: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Make the tokens for each prompt at its timestep.

        The batch dimensions B of the arguments are broadcast: features (P, 1, L, D) and timesteps
        (T,) make every prompt's tokens at every timestep in one pass.

        Args:
            llm_features: (*B, L, llm_dim) last hidden state, in the dtype to compute in.
            timestep: (*B) DDPM timesteps, 0-999.
            mask: (*B, L) bool, False where a shorter prompt was filled up; None where none was.

        Returns:
            (*B, N, width) in the dtype of `llm_features`.
        """

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw initial weights for training from scratch."""


def batch_shape(llm_features: torch.Tensor, timestep: torch.Tensor) -> torch.Size:
    """The batch dimensions *B that features (*B, L, D) and timesteps (*B) have together."""
    shape: torch.Size = torch.broadcast_shapes(  # type: ignore[no-untyped-call]
        llm_features.shape[:-2], timestep.shape
    )
    return shape


def reset_layers(module: nn.Module) -> None:
    """Give each linear layer and layer norm torch's default weights.

    A host's own versions of these layers often skip initialisation, so torch's is named.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.Linear.reset_parameters(layer)
        elif isinstance(layer, nn.LayerNorm):
            nn.LayerNorm.reset_parameters(layer)
