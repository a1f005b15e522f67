"""Settings of connectors and of the LLMs that they read.

The defaults are the released ELLA for SD1.5: FLAN-T5-XL features (2048) to the U-Net's
cross-attention width (768), 64 latents, 6 blocks (arXiv 2403.05135).
"""

from dataclasses import dataclass
from typing import TypeAlias

#: Tokens of a chunk, special ones included, where `max_length` sets no other length.
CHUNK_TOKENS = 128

#: Ways to store the weights of an LLM's Linear layers in 8 bits.
QUANTIZATIONS = ("fp8", "int8")

#: How a prompt is read that is longer than wanted: in one go, or in chunks.
LONG_PROMPT = ("whole", "chunk")


@dataclass(frozen=True)
class TimeConfig:
    """How a connector sees the timestep.

    Attributes:
        channels: width of the sinusoid that encodes the timestep.
        dim: width of the embedding made from it.
        gated: AdaLN-Zero (each residual branch has a learned gate) instead of AdaLN.
    """

    channels: int = 320
    dim: int = 768
    gated: bool = False


@dataclass(frozen=True)
class MLPConfig:
    """Two linear layers applied to each LLM token: the context is as long as the prompt.

    Attributes:
        llm_dim: width of the LLM's last hidden state.
        width: width of the context, the U-Net's cross-attention width.
    """

    llm_dim: int = 2048
    width: int = 768


@dataclass(frozen=True)
class ResamplerConfig:
    """Learned latents that read the LLM's tokens through perceiver blocks.

    Attributes:
        llm_dim: width of the LLM's last hidden state.
        width: width of the latents.
        layers: number of perceiver blocks.
        heads: attention heads; the one dimension that the tensors' shapes do not show.
        num_latents: length of the context.
        time: None for a plain resampler, else a timestep-aware connector (TSC).
        context_dim: width of the context, if a linear layer and a layer norm make it of the
            latents; None if the latents are the context.
        pooled_dim: width of the embedding that an attention pool makes of the context; None
            without a pool.
    """

    llm_dim: int = 2048
    width: int = 768
    layers: int = 6
    heads: int = 8
    num_latents: int = 64
    time: TimeConfig | None = TimeConfig()
    context_dim: int | None = None
    pooled_dim: int | None = None


@dataclass(frozen=True)
class LLMAdapterConfig:
    """An LLM adapter of the kind released for SDXL. It knows no timestep.

    The defaults are Minthy/RouWei-Gemma's. Minthy/Rouwei-T5Gemma-adapter_v0.2 has `llm_dim` 2304
    and 3 wide layers.

    Attributes:
        llm_dim: width of the LLM's last hidden state.
        width: width of the context and of all layers.
        wide_layers: blocks that read the LLM's tokens.
        narrow_layers: blocks that read what the latents have taken from these.
        heads: attention heads; the one dimension that the tensors' shapes do not show.
        max_tokens: LLM tokens that have a position; further ones are cut off.
        num_latents: length of the context.
        pooled_dim: width of the pooled embedding.
    """

    llm_dim: int = 1152
    width: int = 2048
    wide_layers: int = 2
    narrow_layers: int = 3
    heads: int = 16
    max_tokens: int = 512
    num_latents: int = 308
    pooled_dim: int = 1280


ConnectorConfig: TypeAlias = MLPConfig | ResamplerConfig | LLMAdapterConfig

#: The connectors compared in the paper's Table 6; "adaln" is the released TSC.
PAPER_CONNECTORS: dict[str, ConnectorConfig] = {
    "mlp": MLPConfig(),
    "resampler-1": ResamplerConfig(layers=1, time=None),
    "resampler-6": ResamplerConfig(time=None),
    "adaln-zero": ResamplerConfig(time=TimeConfig(gated=True)),
    "adaln": ResamplerConfig(),
}


# GGUF names both of each pair alike, and transformers tells them apart by the file's title.
_ONE_ARCHITECTURE = {"mistral": "llama", "umt5": "t5"}


@dataclass(frozen=True)
class LLMIdentity:
    """Facts that tell LLMs of one width apart, whatever layout, dtype or name their files have.

    Attributes:
        model_type: the architecture, in transformers' terms.
        layers: number of hidden layers.
    """

    model_type: str
    layers: int

    def is_other_than(self, model_type: str | None, layers: int | None) -> bool:
        """True if a known one of these differs."""
        own, other = (
            _ONE_ARCHITECTURE.get(name or "", name) for name in (self.model_type, model_type)
        )
        return (other is not None and own != other) or layers not in (None, self.layers)


@dataclass(frozen=True)
class ConnectorMetadata:
    """How a connector was trained, as its file says. The released file says nothing.

    Attributes:
        trained_tokens: LLM tokens of the longest prompt it was trained on; 128 for the released
            connector (arXiv 2403.05135, section 5.1).
        llm: name of the LLM, for people.
        llm_type: the LLM's `model_type` in transformers' terms.
        llm_layers: number of the LLM's hidden layers.
        llm_layer: index of the hidden state that it reads; None or -1 for the last.
        base: diffusion model whose U-Net it was trained with.
        steps: training steps.
        licence: of the weights.
        version: of the weights.
    """

    trained_tokens: int = 128
    llm: str | None = None
    llm_type: str | None = None
    llm_layers: int | None = None
    llm_layer: int | None = None
    base: str | None = None
    steps: int | None = None
    licence: str | None = None
    version: str | None = None
