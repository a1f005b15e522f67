"""Which features of a prompt belong to which of its words."""

import re

from ..errors import EllaError
from .prompts import tokenise_prompt
from .tokenizer import PromptTokenizer


def words_of(
    tokenizer: PromptTokenizer, text: str, max_length: int = 0, chunked: bool = False
) -> list[tuple[str, list[int]]]:
    """Return a prompt's words, in order, each with the rows of its tokens among the features.

    A word ends where a space is; its comma belongs to it. Special tokens, padding and words that
    were cut off have no place in it.

    Args:
        tokenizer: the LLM's.
        text: see `encode_prompt`.
        max_length: see there.
        chunked: see there.

    Raises:
        EllaError: the tokenizer can't say where its tokens are, or see `encode_prompt`.
    """
    prompt = tokenise_prompt(tokenizer, text, max_length, chunked)
    spans = [match.span() for match in re.finditer(r"\S+", prompt.text)]
    rows: list[list[int]] = [[] for _ in spans]
    first = 0
    for piece in prompt.pieces:
        for row, (_, stop) in enumerate(piece.offsets, first + piece.start):
            # By its last character: some tokenizers count the space in front as part of a token.
            for word, (begin, end) in zip(rows, spans, strict=True):
                if begin < stop <= end:
                    word.append(row)
        first += max(len(piece.ids), prompt.length)
    named = [(prompt.text[slice(*span)], row) for span, row in zip(spans, rows, strict=True) if row]
    if spans and not named:
        raise EllaError(
            "The tokenizer of this LLM can't say which words its tokens stand for (it is a slow "
            "one, in transformers' terms). Choose an LLM with a tokenizer.json in Load LLM (ELLA)."
        )
    return named
