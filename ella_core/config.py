"""What a connector is made of, and what an LLM's weights can be stored in.

The defaults are the released ELLA for SD1.5: FLAN-T5-XL features (2048) to the U-Net's
cross-attention width (768), 64 tokens, 6 blocks (arXiv 2403.05135).
"""

from dataclasses import dataclass
from typing import TypeAlias

#: Tokens of the LLM in each prompt that the released connector was trained on.
TRAINED_TOKENS = 128

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
    """Two linear layers applied to each LLM token: as many tokens out as in."""

    llm_dim: int = 2048
    width: int = 768


@dataclass(frozen=True)
class ResamplerConfig:
    """Learned latents that read the LLM's tokens through perceiver blocks.

    Attributes:
        llm_dim: width of the LLM's last hidden state.
        width: width of the tokens made, the U-Net's cross-attention width.
        layers: number of perceiver blocks.
        heads: attention heads; the one dimension that the tensors' shapes do not show.
        num_latents: number of tokens made.
        time: None for a plain resampler, else a timestep-aware connector (TSC).
    """

    llm_dim: int = 2048
    width: int = 768
    layers: int = 6
    heads: int = 8
    num_latents: int = 64
    time: TimeConfig | None = TimeConfig()


ConnectorConfig: TypeAlias = MLPConfig | ResamplerConfig

#: The connectors compared in the paper's Table 6; "adaln" is the released TSC.
PAPER_CONNECTORS: dict[str, ConnectorConfig] = {
    "mlp": MLPConfig(),
    "resampler-1": ResamplerConfig(layers=1, time=None),
    "resampler-6": ResamplerConfig(time=None),
    "adaln-zero": ResamplerConfig(time=TimeConfig(gated=True)),
    "adaln": ResamplerConfig(),
}
