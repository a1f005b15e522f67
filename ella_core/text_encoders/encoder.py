"""The one interface of every LLM: text to last hidden state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from ..errors import EllaError
from .prompts import PromptCounts, PromptTokenizer


@dataclass(frozen=True, eq=False)
class EncodedPrompt(PromptCounts):
    """An LLM's reading of one prompt. Compared by identity: it keys what was computed of it.

    Attributes:
        features: (1, L, D) last hidden state, in the LLM's dtype and on its device.
    """

    features: torch.Tensor

    __eq__ = object.__eq__  # `PromptCounts` compares its numbers
    __hash__ = object.__hash__


class TextEncoder:
    """A transformers model with its tokenizer, as an encoder of prompts.

    Attributes:
        model: the transformers module.
        tokenizer: cuts prompts into what the model reads.
        width: width D of its last hidden state.
    """

    def __init__(self, model: Any, tokenizer: PromptTokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.width: int = model.config.hidden_size

    @torch.no_grad()
    def encode(
        self,
        text: str,
        max_length: int = 0,
        chunked: bool = False,
        on_piece: Callable[[int, int], None] = lambda done, of: None,
    ) -> EncodedPrompt:
        """Read a prompt.

        Args:
            text: any text; empty is fine. `(words:1.3)` weighs words, see `weights.parse`.
            max_length: 0 reads the prompt at its own length. Else the prompt is cut or padded to
                this many tokens, and the features of the padding are part of the result, as in
                the reference implementation (arXiv 2403.05135 used 128).
            chunked: read a prompt of more than `max_length` tokens (`TRAINED_TOKENS` if that is 0)
                in chunks of at most so many, see `chunks.chunks`: each like a prompt of its own
                with the same `max_length`, their features joined. Nothing is cut off.
            on_piece: called after each piece that was read, with the number of those and of all.

        Raises:
            EllaError: `max_length` is more than the LLM can read in one go, or too little for
                chunks; weights or chunks are asked of a tokenizer that can't say which words
                its tokens stand for; or what the LLM makes is not finite.
        """
        prompt = self.tokenizer.read(text, max_length, chunked)
        empty_D = self._empty_feature() if prompt.has_weights else None
        features = []
        for done, piece in enumerate(prompt.pieces, 1):
            features_BLD = self._last_hidden_state(piece.ids, max_length)
            if empty_D is not None:
                end = piece.start + len(piece.weights)
                _weigh(features_BLD[:, piece.start : end], piece.weights, empty_D)
            features.append(features_BLD)
            on_piece(done, len(prompt.pieces))
        counts = {field.name: getattr(prompt, field.name) for field in fields(PromptCounts)}
        return EncodedPrompt(torch.cat(features, dim=1), **counts)

    def _empty_feature(self) -> torch.Tensor:
        (piece,) = self.tokenizer.read("").pieces
        return self._last_hidden_state(piece.ids).float().mean(dim=(0, 1))

    def _last_hidden_state(self, ids: list[int], length: int = 0) -> torch.Tensor:
        """Features of `ids`, padded to `length` tokens if they are fewer."""
        device = next(self.model.parameters()).device
        padding = [self.tokenizer.special.pad] * (length - len(ids))
        input_ids = torch.tensor([ids + padding], device=device)
        attention_mask = torch.zeros_like(input_ids)
        attention_mask[:, : len(ids)] = 1
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        features: torch.Tensor = output.last_hidden_state
        if not features.isfinite().all():
            raise EllaError(
                f"The LLM makes NaN or infinite numbers of this prompt in {features.dtype}. Choose "
                f"fp32 or bf16 as dtype in Load LLM (ELLA). If it does so there too, its files are "
                f"damaged: download them again."
            )
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
