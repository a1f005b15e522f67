"""Connectors: LLM features in, tokens for the U-Net's cross-attention out."""

import torch

from ..config import ConnectorConfig, LLMAdapterConfig, MLPConfig
from .base import Connector, Operations
from .llm_adapter import LLMAdapter
from .mlp import MLPConnector
from .resampler import Resampler

__all__ = [
    "Connector",
    "LLMAdapter",
    "MLPConnector",
    "Operations",
    "Resampler",
    "build_connector",
]


def build_connector(config: ConnectorConfig, operations: Operations = torch.nn) -> Connector:
    """Build the connector that `config` describes, with uninitialised or default weights.

    Call `reset_parameters()` on it to train from scratch; to read a checkpoint use
    `ella_core.checkpoint.load_connector`.

    Args:
        config: kind and dimensions.
        operations: namespace with `Linear` and `LayerNorm`; ComfyUI's `comfy.ops.manual_cast`
            there, so that its memory management can move each layer.
    """
    if isinstance(config, MLPConfig):
        return MLPConnector(config, operations)
    if isinstance(config, LLMAdapterConfig):
        return LLMAdapter(config, operations)
    return Resampler(config, operations)
