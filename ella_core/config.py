"""Settings of connectors and of the LLMs that they read.

The defaults are the released ELLA for SD1.5: FLAN-T5-XL features (2048) to the U-Net's
cross-attention width (768), 64 latents, 6 blocks (arXiv 2403.05135).
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

from .errors import EllaError

#: Tokens of a chunk, special ones included, where `max_length` sets no other length.
CHUNK_TOKENS = 128

#: Width of a context -> the model that reads it; width of features -> the LLM that makes them.
MODEL_NAMES = {768: "a Stable Diffusion 1.5 model", 2048: "an SDXL model"}
LLM_NAMES = {2048: "the FLAN-T5-XL encoder", 1152: "Gemma 3 1B", 2304: "T5Gemma 2B"}

#: Ways to store the weights of an LLM's Linear layers in 8 bits.
QUANTIZATIONS = ("fp8", "int8")

#: How a prompt is read that is longer than wanted: in one go, or in chunks.
LONG_PROMPT = ("whole", "chunk")


#: Where a template has the prompt, and where the system prompt.
PROMPT_MARK, SYSTEM_MARK = "%prompt%", "%system%"


@dataclass(frozen=True)
class ReadingRecipe:
    """How an LLM reads a prompt for a connector; by default the raw text, as for ELLA.

    The features are the LLM's last hidden state in any case.

    Attributes:
        system_prompt: what the system says in the LLM's chat template, in which the prompt is the
            user's turn and the model's turn begins; None reads the prompt without a chat template.
        template: takes the chat template's place: a text with `PROMPT_MARK` in it.
        skipped: tokens in front whose features the connector does not get; None for all that are
            in front of the prompt.
        suffix: text behind the prompt, such as a special token of the LLM.
        max_tokens: what the connector reads at most. Further tokens are cut off, and it gets the
            chunks of a long prompt one by one. 0 for any number, and all chunks together.
        padded: fill each text up to `max_tokens`, and mask what was filled in.
    """

    system_prompt: str | None = None
    template: str | None = None
    skipped: int | None = 0
    suffix: str = ""
    max_tokens: int = 0
    padded: bool = False

    @property
    def has_template(self) -> bool:
        """Whether the prompt is put into a text of the LLM's or of the user's."""
        return self.template is not None or self.system_prompt is not None


@dataclass(frozen=True)
class PromptTemplate:
    """What a user puts around prompts, in place of what the connector's recipe says.

    Attributes:
        system_prompt: what the system says in the LLM's chat template, see `ReadingRecipe`.
        text: takes the chat template's place, with `PROMPT_MARK` once, and `SYSTEM_MARK` where the
            system prompt is to stand; None for the chat template.
        skipped: see `ReadingRecipe`.
    """

    system_prompt: str
    text: str | None
    skipped: int | None

    def __post_init__(self) -> None:
        """Refuse a text without one place for the prompt.

        Raises:
            EllaError: `PROMPT_MARK` is not in it, or more than once, or in the system prompt.
        """
        if self.text is not None and self.text.count(PROMPT_MARK) != 1:
            raise EllaError(
                f"The template of ELLA Prompt Template has {PROMPT_MARK} "
                f"{self.text.count(PROMPT_MARK)} times. Write it once, where the prompt is to "
                f"stand, or leave the template empty for the LLM's own chat template."
            )
        if self.text is not None and SYSTEM_MARK in self.text and PROMPT_MARK in self.system_prompt:
            raise EllaError(
                f"The system_prompt of ELLA Prompt Template has {PROMPT_MARK}, and its template "
                f"puts it beside the prompt's own place. Take {PROMPT_MARK} out of system_prompt."
            )

    @classmethod
    def of(cls, system_prompt: str, template: str, skip_tokens: int) -> "PromptTemplate":
        """Return what the inputs of ELLA Prompt Template say.

        Raises:
            EllaError: see `__post_init__`.
        """
        return cls(system_prompt, template or None, None if skip_tokens < 0 else skip_tokens)

    def over(self, recipe: ReadingRecipe) -> ReadingRecipe:
        """Return `recipe` with these settings in place of its own."""
        template = self.text and self.text.replace(SYSTEM_MARK, self.system_prompt)
        system = None if template else self.system_prompt
        return replace(
            recipe, system_prompt=system, template=template, skipped=self.skipped, suffix=""
        )


#: ELLA's own: the raw text with the LLM's special tokens.
PLAIN = ReadingRecipe()

#: How the released LLM adapters read: `model_type` of the LLM, in transformers' terms, -> recipe.
#: 27 tokens are all of Gemma's template in front of the prompt.
ADAPTER_RECIPES = {
    "gemma3_text": ReadingRecipe(
        system_prompt="You are expert in understanding of user prompts for image generations. "
        "Create an image according to the prompt from user.",
        skipped=27,
        max_tokens=512,
    ),
    "t5gemma": ReadingRecipe(suffix="<eos>", max_tokens=512, padded=True),
}


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


def recipe_of(config: ConnectorConfig, model_type: str | None) -> ReadingRecipe:
    """Return how an LLM reads prompts for a connector.

    Args:
        config: the connector's.
        model_type: the LLM's, in transformers' terms. For an LLM adapter an LLM that none of the
            released ones was trained with reads as Gemma 3 does.
    """
    if not isinstance(config, LLMAdapterConfig):
        return PLAIN
    gemma = ADAPTER_RECIPES["gemma3_text"]
    return replace(ADAPTER_RECIPES.get(model_type or "", gemma), max_tokens=config.max_tokens)


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
        """Return whether one of these is known and differs."""
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
