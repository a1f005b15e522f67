"""The LLM adapters that were released for SDXL (Minthy/RouWei-Gemma and its T5Gemma successor).

Shapes: B any batch dimensions, N latents, L LLM tokens, D LLM width, W width, P width of the
pooled embedding.
"""

import torch
from torch import nn

from ..config import ConnectorMetadata, LLMAdapterConfig
from .base import Connector, Operations, batch_shape, reset_layers
from .blocks import Attention


class LLMAdapter(Connector):
    """Reads the LLM's tokens, compresses them into learned queries, and pools these.

    It knows no timestep. The names of its modules are those in the released files.
    """

    config: LLMAdapterConfig

    def __init__(self, config: LLMAdapterConfig, operations: Operations) -> None:
        super().__init__(config)
        self.timestep_aware, self.num_tokens = False, config.num_latents
        self.pooled_dim = config.pooled_dim
        self.metadata = ConnectorMetadata(trained_tokens=config.max_tokens)
        width, linear, norm = config.width, operations.Linear, operations.LayerNorm
        self.seq_projection = linear(config.llm_dim, width)
        self.input_position_embeddings = nn.Parameter(torch.empty(1, config.max_tokens, width))
        self.wide_attention_blocks = _blocks(config.wide_layers, config, operations)
        self.compression_queries = nn.Parameter(torch.empty(1, config.num_latents, width))
        self.compression_attention = Attention(width, config.heads, operations)
        self.compression_gate = nn.Sequential(linear(2 * width, width), nn.Sigmoid())
        self.compression_norm = norm(width)
        self.output_position_embeddings = nn.Parameter(torch.empty(1, config.num_latents, width))
        self.narrow_attention_blocks = _blocks(config.narrow_layers, config, operations)
        self.pooling_token = nn.Parameter(torch.empty(1, 1, width))
        self.pooling_attention = Attention(width, config.heads, operations)
        self.pooled_projection = nn.Sequential(
            linear(width, width),
            norm(width),
            nn.GELU(),
            nn.Identity(),  # dropout, in training
            linear(width, config.pooled_dim),
        )

    def forward(
        self,
        llm_features: torch.Tensor,
        timestep: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `Connector.forward`; N is `config.num_latents`, and L counts up to `max_tokens`.

        The released code fills a short text up to `max_tokens` and masks what it has filled in.
        Nothing attends to that, so here it is left out.
        """
        hidden_BLW = self.seq_projection(llm_features[..., : self.config.max_tokens, :])
        length, batch = hidden_BLW.shape[-2], hidden_BLW.shape[:-2]
        hidden_BLW = hidden_BLW + self.input_position_embeddings.to(hidden_BLW)[0, :length]
        attended = None
        if mask is not None:
            attended = mask[..., :length].expand(*batch, length).flatten(0, -2)
        for block in self.wide_attention_blocks:
            hidden_BLW = block(hidden_BLW, attended)
        latents_BNW = self._compress(hidden_BLW, attended)
        for block in self.narrow_attention_blocks:
            latents_BNW = block(latents_BNW, None)
        return latents_BNW.expand(*batch_shape(latents_BNW, timestep), *latents_BNW.shape[-2:])

    def _compress(self, hidden_BLW: torch.Tensor, attended: torch.Tensor | None) -> torch.Tensor:
        """Have the queries read the tokens, each as much as its gate lets through."""
        queries_NW = self.compression_queries.to(hidden_BLW)[0]
        queries_BNW = queries_NW.expand(*hidden_BLW.shape[:-2], *queries_NW.shape)
        read_BNW = self.compression_attention(queries_BNW, hidden_BLW, attended)
        gate_BNW = self.compression_gate(torch.cat([queries_BNW, read_BNW], dim=-1))
        mixed_BNW = gate_BNW * read_BNW + (1 - gate_BNW) * queries_BNW
        normed_BNW: torch.Tensor = self.compression_norm(mixed_BNW)
        return normed_BNW + self.output_position_embeddings.to(hidden_BLW)[0]

    def pooled(self, context: torch.Tensor) -> torch.Tensor:
        """See `Connector.pooled`."""
        token_B1W = self.pooling_token.to(context)[0].expand(*context.shape[:-2], 1, -1)
        read_B1W = self.pooling_attention(token_B1W, context)
        pooled: torch.Tensor = self.pooled_projection(read_B1W[..., 0, :])
        return pooled

    def reset_parameters(self) -> None:
        """Initial weights as the released adapters' code draws them.

        Queries, positions and the pooling token are standard normal; q, k and v are
        Xavier-uniform as one (3W, W) matrix with zero biases; all else is torch's default.
        """
        reset_layers(self)
        for parameter in (
            self.input_position_embeddings,
            self.output_position_embeddings,
            self.compression_queries,
            self.pooling_token,
        ):
            nn.init.normal_(parameter)
        for module in self.modules():
            if isinstance(module, Attention):
                module.reset_parameters()


class _Block(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self, config: LLMAdapterConfig, operations: Operations) -> None:
        super().__init__()
        width = config.width
        self.norm1 = operations.LayerNorm(width)
        self.attn = Attention(width, config.heads, operations)
        self.norm2 = operations.LayerNorm(width)
        self.mlp = nn.Sequential(
            operations.Linear(width, 4 * width), nn.GELU(), operations.Linear(4 * width, width)
        )

    def forward(self, x_BLW: torch.Tensor, attended: torch.Tensor | None) -> torch.Tensor:
        """`attended` is that of `Attention`."""
        normed_BLW = self.norm1(x_BLW)
        x_BLW = x_BLW + self.attn(normed_BLW, normed_BLW, attended)
        out: torch.Tensor = x_BLW + self.mlp(self.norm2(x_BLW))
        return out


def _blocks(count: int, config: LLMAdapterConfig, operations: Operations) -> nn.ModuleList:
    return nn.ModuleList(_Block(config, operations) for _ in range(count))
