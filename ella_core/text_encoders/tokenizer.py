"""From a raw text to the token ids that the LLM reads. Needs no weights."""

from dataclasses import dataclass
from typing import Any

from ..config import PLAIN, ReadingRecipe
from ..errors import EllaError
from .frame import FramedText, frame
from .tokens import Encoding, SpecialTokens, tokenise, whole_characters, windows

#: Tokens that are read in one go; longer prompts are read in pieces. T5's attention scores and
#: position bias take heads x L x L each: 0.27 GB at 2048 tokens for FLAN-T5-XL's 32 heads in
#: fp16, 16 GB at 16,000 (by arithmetic, not measured).
MAX_WINDOW = 2048


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptCounts:
    """Counts of a prompt's tokens and pieces.

    Attributes:
        tokens: number of tokens that are read, special ones included, padding and a chat
            template's own excluded.
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
        ids: token ids, special ones and those of a chat template included.
        words: the tokens of the text that are in it.
        start: index of the first of these among the tokens that the connector reads.
        skipped: tokens in front that the connector does not get.
        tokens: what it counts as in `PromptCounts.tokens`.
    """

    ids: list[int]
    words: slice
    start: int
    skipped: int
    tokens: int


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
        """Number of tokens that are read, see `PromptCounts`."""
        return sum(piece.tokens for piece in self.pieces)


class PromptTokenizer:
    """A tokenizer and the special tokens that its LLM expects.

    Attributes:
        special: ids around each text.
        window: number of tokens that the LLM reads in one go.
        model_type: the LLM's, in transformers' terms; None if unknown.
    """

    def __init__(
        self,
        tokenizer: Any,
        special: SpecialTokens,
        positions: int | None = None,
        model_type: str | None = None,
    ) -> None:
        """Wrap a tokenizer of transformers.

        Args:
            tokenizer: any, "fast" or "slow".
            special: ids around each text.
            positions: number of tokens that the LLM has positions for, None for any number.
            model_type: see the attributes.
        """
        self.tokenizer = tokenizer
        self.special = special
        self.window = min(MAX_WINDOW, positions or MAX_WINDOW)
        self.model_type = model_type

    @property
    def pads_on_left(self) -> bool:
        """Whether the LLM is used to padding before a text."""
        return bool(self.tokenizer.padding_side == "left")

    def tokenise(self, text: str, recipe: ReadingRecipe = PLAIN) -> Encoding:
        """Return the tokens of a raw text, without special ones and a template's."""
        text = whole_characters(text)
        if recipe == PLAIN:
            return tokenise(self.tokenizer, text)
        return frame(self.tokenizer, self.special, text, recipe).words

    def room(self, recipe: ReadingRecipe, length: int) -> int:
        """Return how many of a text's tokens fit into `length` that the connector reads."""
        if recipe == PLAIN:
            return length - len(self.special)
        framed = frame(self.tokenizer, self.special, "a", recipe)
        return length - (len(framed.ids) - len(framed.words.ids) - _skipped(framed, recipe))

    def longest(self, recipe: ReadingRecipe) -> int:
        """Return how many tokens the LLM can read beside those that are skipped."""
        if recipe == PLAIN:
            return self.window
        return self.window - _skipped(frame(self.tokenizer, self.special, "a", recipe), recipe)

    def read(self, text: str, max_length: int = 0, recipe: ReadingRecipe = PLAIN) -> TokenisedText:
        """Cut a raw text into pieces that the LLM can read.

        The arguments and errors are those of `prompts.encode_prompt`.
        """
        self.check_length(max_length)
        if recipe != PLAIN:
            return self._read_framed(whole_characters(text), max_length, recipe)
        encoding = self.tokenise(text)
        count = len(encoding.ids)
        room = max(0, (max_length or self.window) - len(self.special))
        cuts = [slice(room)] if max_length else windows(count, room)
        pieces = []
        for cut in cuts:
            ids = self.special.frame(encoding.ids[cut])[: max_length or None]
            pieces.append(Piece(ids, cut, len(self.special.prefix), 0, len(ids)))
        return TokenisedText(encoding, pieces, max(0, count - room) if max_length else 0)

    def _read_framed(self, text: str, max_length: int, recipe: ReadingRecipe) -> TokenisedText:
        """Read what the recipe puts around a text with it, in one piece, cut off at the end."""
        framed = frame(self.tokenizer, self.special, text, recipe)
        skipped = _skipped(framed, recipe)
        limit = skipped + recipe_length(recipe, max_length, self.window - skipped)
        ids, count = framed.ids[:limit], len(framed.words.ids)
        if len(ids) <= skipped:
            raise EllaError(
                f"The prompt within its template has {len(ids)} tokens, and the first {skipped} "
                f"are left out for the connector. Choose the LLM that the connector was trained "
                f"with in Load LLM (ELLA); if ELLA Prompt Template is in the graph, lower its "
                f"skip_tokens."
            )
        # A template that is shorter than what is skipped takes words with it.
        words = slice(
            min(count, max(0, skipped - framed.start)),
            min(count, max(0, len(ids) - framed.start)),
        )
        read = len(framed.words.ids[words])
        piece = Piece(
            ids,
            words,
            framed.start + words.start - skipped,
            skipped,
            read if recipe.has_template else len(ids),
        )
        return TokenisedText(framed.words, [piece], count - read)

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


def _skipped(framed: FramedText, recipe: ReadingRecipe) -> int:
    wanted = framed.start if recipe.skipped is None else recipe.skipped
    # Of an empty prompt a token is left: every prompt has it beside it, in case of a strength.
    return wanted if framed.words.ids else min(wanted, max(0, len(framed.ids) - 1))


def recipe_length(recipe: ReadingRecipe, max_length: int, longest: int) -> int:
    """Return how many tokens the connector gets at most under a recipe.

    Args:
        recipe: says how many the connector reads.
        max_length: says how many the user wants; 0 for any number.
        longest: what the LLM can read beside what is skipped.
    """
    return min(filter(None, (max_length, recipe.max_tokens, longest)))
