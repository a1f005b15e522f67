"""The one interface of every LLM: raw text to last hidden state."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..config import PLAIN, LLMIdentity, ReadingRecipe
from ..errors import EllaError
from .tokenizer import MAX_WINDOW, PromptCounts, PromptTokenizer


@dataclass(frozen=True, eq=False)
class EncodedPrompt(PromptCounts):
    """A prompt as an LLM has read it; compared by identity.

    Attributes:
        features: (K, L, D) last hidden state, in the LLM's dtype and on its device, of K texts that
            the connector reads one by one; more than 1 only for chunks under a recipe with
            `max_tokens`.
        llm: which LLM has read it; None if unknown.
        mask: (K, L) bool on the CPU, False where a text was filled up; None where none was, or
            where the connector reads that too.
        recipe: how it was read, with a template of the user's in place of the connector's.
    """

    features: torch.Tensor
    llm: LLMIdentity | None = None
    mask: torch.Tensor | None = None
    recipe: ReadingRecipe = PLAIN


class TextEncoder:
    """A transformers model with its tokenizer, as an encoder of prompts.

    Attributes:
        model: the transformers module.
        tokenizer: cuts prompts into what the model reads.
        width: width D of its last hidden state.
        identity: tells it from other LLMs of this width.
    """

    def __init__(self, model: Any, tokenizer: PromptTokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer
        config = text_config(model.config)
        self.width: int = config.hidden_size
        self.identity = LLMIdentity(model.config.model_type, config.num_hidden_layers)

    def encode(self, texts: Sequence[str], max_length: int = 0) -> list[EncodedPrompt]:
        """Read raw texts in batches of equal length, so that none is padded for another's sake.

        Parentheses and numbers are read as they stand; `prompts.encode_prompt` reads weights.

        Args:
            texts: any texts; empty ones are fine.
            max_length: 0 reads each text at its own length. Else each is cut or padded to this
                many tokens, and the features of the padding are part of the result, as in the
                reference implementation (arXiv 2403.05135 used 128).

        Returns:
            One prompt for each text, in order.

        Raises:
            EllaError: `max_length` is more than the LLM can read in one go, or the features are
                not finite.
        """
        read = [self.tokenizer.read(text, max_length) for text in texts]
        pieces = [piece.ids for text in read for piece in text.pieces]
        features: dict[int, torch.Tensor] = {}
        for batch in _batches([max(len(ids), max_length) for ids in pieces]):
            features_BLD = self.last_hidden_state([pieces[i] for i in batch], max_length)
            features |= {i: row[None] for i, row in zip(batch, features_BLD, strict=True)}
        in_order = (features[i] for i in range(len(pieces)))
        return [
            EncodedPrompt(
                torch.cat([next(in_order) for _ in text.pieces], dim=1),  # a copy of its own
                self.identity,
                tokens=text.tokens,
                windows=len(text.pieces),
                dropped=text.dropped,
            )
            for text in read
        ]

    @torch.no_grad()
    def last_hidden_state(
        self, ids: Sequence[list[int]], length: int = 0, pad_left: bool = False
    ) -> torch.Tensor:
        """Read token ids in one pass.

        Args:
            ids: token ids of each row, special ones included; equally many if `length` is 0.
            length: pads each row to this many tokens, which the others don't attend to.
            pad_left: put the padding before the row, not behind it.

        Returns:
            (B, L, D) in the LLM's dtype and on its device.

        Raises:
            EllaError: the features are not finite.
        """
        device = next(self.model.parameters()).device
        pad = self.tokenizer.special.pad
        rows, masks = [], []
        for row in ids:
            padding = [pad] * (length - len(row))
            rows.append(padding + row if pad_left else row + padding)
            ones, zeros = [1] * len(row), [0] * len(padding)
            masks.append(zeros + ones if pad_left else ones + zeros)
        input_ids = torch.tensor(rows, device=device)
        attention_mask = torch.tensor(masks, device=device)
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        features: torch.Tensor = output.last_hidden_state
        if not features.isfinite().all():
            raise EllaError(
                f"The LLM makes NaN or infinite numbers of this prompt in {features.dtype}. Choose "
                f"fp32 or bf16 as dtype in Load LLM (ELLA). If it does so there too, its files are "
                f"damaged: download them again."
            )
        return features


def text_config(config: Any) -> Any:
    """Return the part of a configuration that describes the reader; T5Gemma's is its encoder."""
    return getattr(config, "encoder", config)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield indices of equal lengths, as many as have `MAX_WINDOW` tokens together."""
    alike: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        alike.setdefault(length, []).append(i)
    for length, indices in alike.items():
        size = max(1, MAX_WINDOW // length)
        for start in range(0, len(indices), size):
            yield indices[start : start + size]
