"""The one interface of every LLM: text to last hidden state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..config import TRAINED_TOKENS
from ..errors import EllaError
from .chunks import chunks
from .tokens import SpecialTokens, Tokens, tokenise, windows
from .weights import parse, token_weights

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
        weighted: number of tokens whose weight is not 1.
        chunks: number of chunks that the prompt was cut into, 1 if it was left whole.
        chunk_length: tokens that a chunk may have, special ones included; 0 if it was left whole.
    """

    features: torch.Tensor
    tokens: int
    windows: int = 1
    dropped: int = 0
    weighted: int = 0
    chunks: int = 1
    chunk_length: int = 0


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
    def encode(self, text: str, max_length: int = 0, chunked: bool = False) -> EncodedPrompt:
        """Read a prompt.

        Args:
            text: any text; empty is fine. `(words:1.3)` weighs words, see `weights.parse`.
            max_length: 0 reads the prompt at its own length. Else the prompt is cut or padded to
                this many tokens, and the features of the padding are part of the result, as in
                the reference implementation (arXiv 2403.05135 used 128).
            chunked: read a prompt of more than `max_length` tokens (`TRAINED_TOKENS` if that is 0)
                in chunks of at most so many, see `chunks.chunks`: each like a prompt of its own
                with the same `max_length`, their features joined. Nothing is cut off.

        Raises:
            EllaError: `max_length` is more than the LLM can read in one go, or too little for
                chunks; or weights or chunks are asked of a tokenizer that can't say which words
                its tokens stand for.
        """
        if max_length > self.window:
            raise EllaError(
                f"max_length is {max_length}, but this LLM reads at most {self.window} tokens at "
                f"once. Set it to {self.window} or less in LLM Text Encode (ELLA), or to 0."
            )
        # Half of a surrogate pair, which JSON can bring, is no text to a tokenizer.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        plain, weights = parse(text)
        texts, chunk_length = [plain], 0
        if chunked:
            chunk_length = min(max_length or TRAINED_TOKENS, self.window)
            texts = list(chunks(plain, self._tokenise, chunk_length - len(self._special)))
        empty_D = self._empty_feature() if any(weight != 1 for weight in weights) else None
        parts, start = [], 0
        for chunk in texts:
            end = start + len(chunk)
            parts.append(self._read(chunk, max_length, weights[start:end], empty_D))
            start = end
        return EncodedPrompt(
            features=torch.cat([part.features for part in parts], dim=1),
            tokens=sum(part.tokens for part in parts),
            windows=max(part.windows for part in parts),
            dropped=sum(part.dropped for part in parts),
            weighted=sum(part.weighted for part in parts),
            chunks=len(parts),
            chunk_length=chunk_length if len(parts) > 1 else 0,
        )

    def _read(
        self,
        text: str,
        max_length: int,
        weights: Sequence[float] = (),
        empty_D: torch.Tensor | None = None,
    ) -> EncodedPrompt:
        """Read a text without markup, weighted if the empty prompt's feature is given."""
        tokens = self._tokenise(text)
        room = max(0, (max_length or self.window) - len(self._special))
        pieces = [slice(room)] if max_length else windows(len(tokens.ids), room)
        framed = [self._special.frame(tokens.ids[p])[: max_length or None] for p in pieces]
        features = [self._last_hidden_state(ids, max_length) for ids in framed]
        weighted = 0
        if empty_D is not None:
            token_factors = token_weights(text, weights, tokens.starts)
            start = len(self._special.prefix)
            for piece, features_BLD in zip(pieces, features, strict=True):
                factors = token_factors[piece]
                _weigh(features_BLD[:, start : start + len(factors)], factors, empty_D)
                weighted += sum(factor != 1 for factor in factors)
        return EncodedPrompt(
            features=torch.cat(features, dim=1),
            tokens=sum(len(ids) for ids in framed),
            windows=len(pieces),
            dropped=max(0, len(tokens.ids) - room) if max_length else 0,
            weighted=weighted,
        )

    def _tokenise(self, text: str) -> Tokens:
        return tokenise(self._tokenizer, text)

    def _empty_feature(self) -> torch.Tensor:
        features: torch.Tensor = self._read("", max_length=0).features
        return features.float().mean(dim=(0, 1))

    def _last_hidden_state(self, ids: list[int], length: int) -> torch.Tensor:
        """Features of `ids`, padded to `length` tokens if they are fewer."""
        device = next(self.model.parameters()).device
        padding = [self._special.pad] * (length - len(ids))
        input_ids = torch.tensor([ids + padding], device=device)
        attention_mask = torch.zeros_like(input_ids)
        attention_mask[:, : len(ids)] = 1
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        features: torch.Tensor = output.last_hidden_state
        return features


def _weigh(features_BLD: torch.Tensor, weights: Sequence[float], empty_D: torch.Tensor) -> None:
    """Move features away from the empty prompt's, or towards it, in place.

    Weight 0 is the empty prompt, 1 the word, more overdrives it. Multiplying the features instead
    would do next to nothing, for the connector puts them through a layer norm: with weights of the
    released size 1.3 on a few tokens changes its output by < 0.2 % that way, by 4 to 9 % this way
    (tests/ella_core/text_encoders/test_weighting.py).
    """
    places = [i for i, weight in enumerate(weights) if weight != 1]
    if not places:
        return
    weights_L1 = torch.tensor([[weights[i]] for i in places], device=features_BLD.device)
    away = empty_D + weights_L1 * (features_BLD[:, places].float() - empty_D)
    moved = away.to(features_BLD.dtype)
    if not moved.isfinite().all():
        raise EllaError(
            f"The weights of this prompt, up to {max(weights):g}, are too high for features in "
            f"{features_BLD.dtype}. Lower them in LLM Text Encode (ELLA); those of parentheses "
            f"inside each other multiply."
        )
    features_BLD[:, places] = moved
