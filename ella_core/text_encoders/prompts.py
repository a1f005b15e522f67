"""From a prompt to what the LLM reads, piece by piece; needs the tokenizer alone, no weights."""

from dataclasses import dataclass
from typing import Any

from ..config import TRAINED_TOKENS
from ..errors import EllaError
from .chunks import chunks
from .tokens import SpecialTokens, Tokens, tokenise, windows
from .weights import parse, token_weights

#: Tokens that are read in one go; longer prompts are read in pieces. T5's attention scores and
#: position bias take heads x L x L each: 0.27 GB at 2048 tokens for FLAN-T5-XL's 32 heads in
#: fp16, 16 GB at 16,000 (by arithmetic, not measured).
MAX_WINDOW = 2048


@dataclass(frozen=True, kw_only=True)
class PromptCounts:
    """How a prompt is read, in numbers.

    Attributes:
        tokens: number of tokens in the prompt with the LLM's special ones, without padding.
        windows: number of pieces that the prompt is read in, 1 unless it is very long.
        dropped: number of the prompt's tokens that a fixed length leaves out.
        weighted: number of tokens whose weight is not 1.
        chunks: number of chunks that the prompt is cut into, 1 if it is left whole.
        chunk_length: tokens that a chunk may have, special ones included; 0 if it is left whole.
    """

    tokens: int
    windows: int = 1
    dropped: int = 0
    weighted: int = 0
    chunks: int = 1
    chunk_length: int = 0


@dataclass(frozen=True)
class Piece:
    """What the LLM reads in one go.

    Attributes:
        ids: token ids, the LLM's special ones included.
        weights: one for each token from `start` on; none where no word of the prompt has one.
        start: number of special ids in front.
    """

    ids: list[int]
    weights: list[float]
    start: int


@dataclass(frozen=True)
class TokenisedPrompt(PromptCounts):
    """A prompt that only has to be read.

    Attributes:
        pieces: what is read one after the other.
        has_weights: whether a word in it has a weight other than 1.
    """

    pieces: list[Piece]
    has_weights: bool


class PromptTokenizer:
    """A tokenizer, with what its LLM wants beside a text.

    Attributes:
        special: ids around each text.
        window: number of tokens that the LLM reads in one go.
    """

    def __init__(
        self, tokenizer: Any, special: SpecialTokens, positions: int | None = None
    ) -> None:
        """Wrap a tokenizer of transformers.

        Args:
            tokenizer: any, "fast" or "slow".
            special: ids around each text.
            positions: number of tokens that the LLM has positions for, None for any number.
        """
        self.tokenizer = tokenizer
        self.special = special
        self.window = min(MAX_WINDOW, positions or MAX_WINDOW)

    def tokenise(self, text: str) -> Tokens:
        """The tokens of a text without markup, without special ones."""
        return tokenise(self.tokenizer, text)

    def read(self, text: str, max_length: int = 0, chunked: bool = False) -> TokenisedPrompt:
        """Cut a prompt into what the LLM reads.

        The arguments and errors are those of `TextEncoder.encode`.
        """
        if max_length > self.window:
            raise EllaError(
                f"max_length is {max_length}, but this LLM reads at most {self.window} tokens at "
                f"once. Set it to {self.window} or less in LLM Text Encode (ELLA), or to 0."
            )
        plain, weights = _parse(text)
        has_weights = any(weight != 1 for weight in weights)
        texts, chunk_length = [plain], 0
        if chunked:
            chunk_length = min(max_length or TRAINED_TOKENS, self.window)
            texts = list(chunks(plain, self.tokenise, chunk_length - len(self.special)))
        pieces: list[Piece] = []
        dropped = start = most = 0
        for chunk in texts:
            end = start + len(chunk)
            cut, beyond = self._pieces(chunk, weights[start:end] if has_weights else [], max_length)
            pieces += cut
            dropped += beyond
            most = max(most, len(cut))
            start = end
        return TokenisedPrompt(
            pieces,
            has_weights,
            tokens=sum(len(piece.ids) for piece in pieces),
            windows=most,
            dropped=dropped,
            weighted=sum(weight != 1 for piece in pieces for weight in piece.weights),
            chunks=len(texts),
            chunk_length=chunk_length if len(texts) > 1 else 0,
        )

    def beyond(self, text: str, limit: int) -> str:
        """What of a prompt, without its markup, does not fit into `limit` tokens.

        Returns:
            The end of the text; nothing if it fits, or if the tokenizer can't say where its tokens
            are.
        """
        plain, _ = _parse(text)
        spans = self.tokenise(plain).spans or []
        return "".join(plain[start:] for start, _ in spans[limit - len(self.special) :][:1])

    def _pieces(self, text: str, weights: list[float], max_length: int) -> tuple[list[Piece], int]:
        """The pieces of a text without markup, and how many of its tokens are left out."""
        tokens = self.tokenise(text)
        room = max(0, (max_length or self.window) - len(self.special))
        cuts = [slice(room)] if max_length else windows(len(tokens.ids), room)
        factors = token_weights(text, weights, tokens.starts) if weights else []
        pieces = [
            Piece(
                self.special.frame(tokens.ids[cut])[: max_length or None],
                factors[cut],
                len(self.special.prefix),
            )
            for cut in cuts
        ]
        return pieces, max(0, len(tokens.ids) - room) if max_length else 0


def _parse(text: str) -> tuple[str, list[float]]:
    """The text that the LLM reads, and a weight for each of its characters."""
    # Half of a surrogate pair, which JSON can bring, is no text to a tokenizer.
    return parse(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
