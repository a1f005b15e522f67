"""From a raw text to the token ids that the LLM reads. Needs no weights."""

from dataclasses import dataclass
from typing import Any

from ..errors import EllaError
from .tokens import Encoding, SpecialTokens, tokenise, whole_characters, windows

#: Tokens that are read in one go; longer prompts are read in pieces. T5's attention scores and
#: position bias take heads x L x L each: 0.27 GB at 2048 tokens for FLAN-T5-XL's 32 heads in
#: fp16, 16 GB at 16,000 (by arithmetic, not measured).
MAX_WINDOW = 2048


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptCounts:
    """How a prompt is read, in numbers.

    Attributes:
        tokens: number of tokens that are read, special ones included, padding excluded.
        windows: number of pieces that the prompt is read in, 1 unless it is very long.
        dropped: number of tokens that a fixed length leaves out.
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
    """Token ids that the LLM reads in one go.

    Attributes:
        ids: token ids, special ones included.
        words: the tokens of the text that are in it.
    """

    ids: list[int]
    words: slice


@dataclass(frozen=True)
class TokenisedText:
    """A raw text, ready to be read.

    Attributes:
        encoding: the text's own tokens.
        pieces: what is read one after the other.
        dropped: number of the text's tokens that a fixed length leaves out.
    """

    encoding: Encoding
    pieces: list[Piece]
    dropped: int

    @property
    def tokens(self) -> int:
        """Number of tokens that are read, special ones included."""
        return sum(len(piece.ids) for piece in self.pieces)


class PromptTokenizer:
    """A tokenizer and the special tokens that its LLM expects.

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

    def tokenise(self, text: str) -> Encoding:
        """Return the tokens of a raw text, without special ones."""
        return tokenise(self.tokenizer, whole_characters(text))

    def read(self, text: str, max_length: int = 0) -> TokenisedText:
        """Cut a raw text into pieces that the LLM can read.

        The arguments and errors are those of `TextEncoder.encode`.
        """
        self.check_length(max_length)
        encoding = self.tokenise(text)
        count = len(encoding.ids)
        room = max(0, (max_length or self.window) - len(self.special))
        cuts = [slice(room)] if max_length else windows(count, room)
        pieces = [
            Piece(self.special.frame(encoding.ids[cut])[: max_length or None], cut) for cut in cuts
        ]
        return TokenisedText(encoding, pieces, max(0, count - room) if max_length else 0)

    def check_length(self, max_length: int) -> None:
        """Refuse a fixed length that is more than the LLM reads at once.

        Raises:
            EllaError: it is more.
        """
        if max_length > self.window:
            raise EllaError(
                f"max_length is {max_length}, but this LLM reads at most {self.window} tokens at "
                f"once. Set it to {self.window} or less in LLM Text Encode (ELLA), or to 0."
            )
