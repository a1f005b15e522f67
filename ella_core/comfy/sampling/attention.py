"""What a connector attends to in a prompt, word by word and timestep by timestep."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from comfy.model_management import load_models_gpu

from ...errors import EllaError
from ..llm.embeds import LLMEmbeds
from .connector import ELLA, read_for


@dataclass(frozen=True)
class WordAttention:
    """A prompt's words and the attention that each gets.

    Attributes:
        words: the V words, in order.
        timesteps: the T timesteps.
        weights: (V, T) share of a latent's attention that a word gets, its tokens added up.
    """

    words: list[str]
    timesteps: list[int]
    weights: torch.Tensor

    @property
    def relative(self) -> torch.Tensor:
        """(V, T) attention in parts of the word's own maximum over timesteps, as in Figure 8."""
        return self.weights / self.weights.amax(dim=1, keepdim=True).clamp(min=1e-12)

    @property
    def table(self) -> str:
        """The weights as CSV: a line for each word, a column for each timestep."""
        lines = [",".join(["word", *map(str, self.timesteps)])]
        for word, row in zip(self.words, self.weights.tolist(), strict=True):
            quoted = '"{}"'.format(word.replace('"', '""'))
            lines.append(",".join([quoted, *(f"{value:.6g}" for value in row)]))
        return "\n".join(lines)


def attention_to_words(
    ella: ELLA,
    embeds: LLMEmbeds,
    timesteps: Sequence[int],
    block: int = 0,
    head: int = 0,
    latent: int = 0,
) -> WordAttention:
    """Return the connector's attention to a prompt's words.

    It is averaged over blocks, heads and latents. The latents are among the keys, too; what they
    get is left out, and the words' shares are not scaled up.

    Args:
        ella: a resampler, such as the released connector.
        embeds: one prompt.
        timesteps: 0-999.
        block: number of the one block to look at, from 1 on; 0 for all.
        head: the same for heads.
        latent: the same for latents.

    Raises:
        EllaError: the connector has no latents that attend to words; several prompts are mixed, or
            none has words, or one too many for a heat map; a number is too high; or see
            `read_for`.
    """
    from ...connectors.attention import (  # not at ComfyUI's start
        attention_counts,
        attention_to_text,
    )
    from ...connectors.resampler import Resampler
    from ...heat_map import check_rows
    from ...text_encoders import load_tokenizer
    from ...text_encoders.words import words_of
    from ..llm.places import tokenizer_places

    embeds = read_for(ella, embeds)
    connector = ella.connector
    if not isinstance(connector, Resampler):
        raise EllaError(
            f"The connector {ella.name} is no resampler: it has no latents whose attention to "
            f"words could be shown. Choose another connector in Load ELLA."
        )
    if embeds.asked is None or embeds.path is None or embeds.asked.template is not None:
        raise EllaError(
            "The embeds are a mix of several prompts, come from a file, or were read within a "
            "template, and attention is shown for one plain prompt. Connect LLM Text Encode (ELLA) "
            "to embeds in ELLA Attention Map."
        )
    asked = embeds.asked
    ((prompt, _),) = embeds.parts
    tokenizer = load_tokenizer(embeds.path, tokenizer_places())
    rows = words_of(tokenizer, asked.text, asked.max_length, asked.chunked)
    if not rows:
        raise EllaError("The prompt of ELLA Attention Map has no words. Write some.")
    check_rows(rows)  # before the work
    numbers = {"block": block, "head": head, "latent": latent}
    chosen = {
        name: _index(name, numbers[name], count)
        for name, count in attention_counts(connector).items()
    }
    load_models_gpu([ella.patcher])
    features = prompt.features.to(ella.patcher.load_device)
    weights_TL = attention_to_text(connector, features, timesteps, **chosen)
    weights_VT = torch.stack([weights_TL[:, row].sum(dim=1) for _, row in rows])
    return WordAttention([word for word, _ in rows], [*timesteps], weights_VT)


def _index(name: str, number: int, count: int) -> int | None:
    """Return the index behind a number from 1 on; None for 0, which is all."""
    if number > count:
        raise EllaError(
            f"{name} is {number}, and the connector has {count}. Set it to 1 to {count} in ELLA "
            f"Attention Map, or to 0 for the average of all."
        )
    return number - 1 if number else None
