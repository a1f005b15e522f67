"""The interface that every connector has."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import nn

from ..config import ConnectorConfig, ConnectorMetadata, ReadingRecipe, recipe_of


class Operations(Protocol):
    """The layers a connector is built from: `torch.nn`, or a host's own versions of them."""

    @property
    def Linear(self) -> Any: ...  # noqa: N802, torch's name

    @property
    def LayerNorm(self) -> Any: ...  # noqa: N802, torch's name


class Connector(nn.Module, ABC):
    """Maps an LLM's last hidden state to the context of a U-Net's cross-attention.

    Attributes:
        config: kind and dimensions.
        metadata: how it was trained.
        llm_dim: width of the features it takes.
        context_dim: width C of the context it makes.
        pooled_dim: width of the pooled embedding; None if it makes none.
        timestep_aware: whether the context depends on the timestep.
        num_tokens: length of the context of any prompt; None for that of the prompt.
    """

    timestep_aware: bool
    num_tokens: int | None

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__()
        self.config = config
        self.metadata = ConnectorMetadata()
        self.llm_dim, self.context_dim = config.llm_dim, config.width
        self.pooled_dim: int | None = None

    @abstractmethod
    def forward(
        self,
        llm_features: torch.Tensor,
        timestep: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Make the context for each prompt at its timestep.

        The batch dimensions B of the arguments are broadcast: features (P, 1, L, D) and timesteps
        (T,) make every prompt's context at every timestep in one pass.

        Args:
            llm_features: (*B, L, llm_dim) last hidden state, in the dtype to compute in.
            timestep: (*B) DDPM timesteps, 0-999.
            mask: (*B, L) bool, False where a shorter prompt was filled up; None where none was.

        Returns:
            (*B, N, context_dim) in the dtype of `llm_features`.
        """

    def pooled(self, context: torch.Tensor) -> torch.Tensor:
        """Pool a context that `forward` has made: (*B, N, context_dim) -> (*B, pooled_dim)."""
        raise NotImplementedError(f"this {type(self).__name__} has no attention pool")

    def recipe(self, model_type: str | None) -> ReadingRecipe:
        """Return how an LLM of this `model_type` (transformers' term) reads prompts for it."""
        return recipe_of(self.config, model_type)

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw initial weights for training from scratch."""


def batch_shape(llm_features: torch.Tensor, timestep: torch.Tensor) -> torch.Size:
    """Return the batch dimensions *B that features (*B, L, D) and timesteps (*B) share."""
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
