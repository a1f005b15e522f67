"""The one interface of every LLM: text to last hidden state."""

from dataclasses import dataclass
from typing import Any

import torch

from ..errors import EllaError
from .tokens import SpecialTokens, token_ids, windows

#: Tokens that are read in one go; longer prompts are read in pieces. T5's attention scores and
#: position bias take heads x L x L each: 0.27 GB at 2048 tokens for FLAN-T5-XL's 32 heads in
#: fp16, 16 GB at 16,000 (by arithmetic, not measured).
MAX_WINDOW = 2048


@dataclass(frozen=True)
class EncodedPrompt:
    """An LLM's reading of one prompt.

    Attributes:
        features: (1, L, D) last hidden state, in the LLM's dtype and on its device.
        tokens: number of tokens in the prompt with the LLM's special ones, without padding.
        windows: number of pieces that the prompt was read in, 1 unless it is very long.
        dropped: number of the prompt's tokens that a fixed length left out.
    """

    features: torch.Tensor
    tokens: int
    windows: int = 1
    dropped: int = 0


class TextEncoder:
    """A transformers model with its tokenizer, as an encoder of prompts.

    Attributes:
        model: the transformers module.
        width: width D of its last hidden state.
        window: number of tokens it reads in one go.
    """

    def __init__(self, model: Any, tokenizer: Any, special: SpecialTokens) -> None:
        self.model = model
        self.width: int = model.config.hidden_size
        self.window: int = min(
            MAX_WINDOW, getattr(model.config, "max_position_embeddings", MAX_WINDOW)
        )
        self._tokenizer = tokenizer
        self._special = special

    @torch.no_grad()
    def encode(self, text: str, max_length: int = 0) -> EncodedPrompt:
        """Read a prompt.

        Args:
            text: any text; empty is fine.
            max_length: 0 reads the prompt at its own length. Else the prompt is cut or padded to
                this many tokens, and the features of the padding are part of the result, as in
                the reference implementation (arXiv 2403.05135 used 128).

        Raises:
            EllaError: `max_length` is more than the LLM can read in one go.
        """
        ids = token_ids(self._tokenizer, text)
        if max_length:
            return self._encode_fixed(ids, max_length)
        pieces = [self._special.frame(w) for w in windows(ids, self.window - len(self._special))]
        features = [self._last_hidden_state(piece, len(piece)) for piece in pieces]
        return EncodedPrompt(
            features=torch.cat(features, dim=1),
            tokens=sum(len(piece) for piece in pieces),
            windows=len(pieces),
        )

    def _encode_fixed(self, ids: list[int], max_length: int) -> EncodedPrompt:
        if max_length > self.window:
            raise EllaError(
                f"max_length is {max_length}, but this LLM reads at most {self.window} tokens at "
                f"once. Set it to {self.window} or less in LLM Text Encode (ELLA), or to 0."
            )
        room = max(0, max_length - len(self._special))
        framed = self._special.frame(ids[:room])[:max_length]
        padding = [self._special.pad] * (max_length - len(framed))
        return EncodedPrompt(
            features=self._last_hidden_state(framed + padding, len(framed)),
            tokens=len(framed),
            dropped=max(0, len(ids) - room),
        )

    def _last_hidden_state(self, ids: list[int], attended: int) -> torch.Tensor:
        device = next(self.model.parameters()).device
        input_ids = torch.tensor([ids], device=device)
        attention_mask = torch.zeros_like(input_ids)
        attention_mask[:, :attended] = 1
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        features: torch.Tensor = output.last_hidden_state
        return features
