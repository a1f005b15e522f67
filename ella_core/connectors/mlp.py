"""The simplest connector of the paper's Table 6."""

import torch
import torch.nn.functional as F

from ..config import MLPConfig
from .base import Connector, Operations, batch_shape, reset_layers


class MLPConnector(Connector):
    """Two linear layers on each token. Knows no timestep and keeps the number of tokens."""

    def __init__(self, config: MLPConfig, operations: Operations) -> None:
        super().__init__(config)
        self.timestep_aware, self.num_tokens = False, None
        self.proj_in = operations.Linear(config.llm_dim, config.width)
        self.proj_out = operations.Linear(config.width, config.width)

    def forward(
        self,
        llm_features: torch.Tensor,
        timestep: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `Connector.forward`; N is L, and each token depends on itself alone."""
        context: torch.Tensor = self.proj_out(F.gelu(self.proj_in(llm_features)))
        return context.expand(*batch_shape(context, timestep), *context.shape[-2:])

    def reset_parameters(self) -> None:
        """Draw torch's default weights for linear layers."""
        reset_layers(self)
