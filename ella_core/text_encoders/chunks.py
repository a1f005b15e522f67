"""Cutting a long prompt into chunks, at the ends of sentences where possible."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence

from ..errors import EllaError
from .tokens import Encoding

# A full stop inside "3.5" ends nothing; Chinese and Japanese put no space after theirs.
_SENTENCE_END = re.compile(
    r"""
    [.!?…؟] ["'”’»)\]]* (?= \s | \Z )
    | [。！？] ["'”’」』）]* (?! [。！？"'”’」』）] )
    | \r\n? | \n
    """,  # noqa: RUF001, the punctuation of other languages is meant
    re.VERBOSE,
)
_SPACES = re.compile(r"\s+")


def chunks(text: str, tokenise: Callable[[str], Encoding], room: int) -> Iterator[str]:
    """Cut `text` into pieces of at most `room` tokens each, which together are `text`.

    Each piece takes as many whole sentences as fit. A sentence that is longer than a piece is cut
    before a space, a word that is longer than a piece between two tokens. Spaces stay with the
    word behind them, so that most tokenizers read a piece as they read it within the whole.

    Args:
        text: any text. One that fits is one piece.
        tokenise: the LLM's tokenizer.
        room: tokens that a piece may have, without the LLM's special ones.

    Raises:
        EllaError: not even one character fits, or the tokenizer can't say where its tokens are.
    """
    room = max(room, 0)
    tokens = tokenise(text)
    if len(tokens.ids) <= room or not text:
        yield text
        return
    starts = tokens.starts
    boundaries = (
        [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)],
        [*(match.start() for match in _SPACES.finditer(text)), len(text)],
        [*starts, len(text)],
    )
    start = 0
    while start < len(text):
        after = bisect_left(starts, start) + room
        horizon = starts[after] if after < len(starts) else len(text)
        for end in _candidates(boundaries, start, horizon):
            # By itself a piece can have more tokens than the same words have within the whole.
            if len(tokenise(text[start:end]).ids) <= room:
                break
        else:
            raise _too_small(text[start:], tokenise, room)
        yield text[start:end]
        start = end


def _candidates(boundaries: Sequence[Sequence[int]], start: int, horizon: int) -> Iterator[int]:
    """Yield ends of the piece from `start`: better kinds of boundary first, later ones first."""
    for positions in boundaries:
        for i in range(bisect_right(positions, horizon) - 1, -1, -1):
            if positions[i] <= start:
                break
            yield positions[i]


def _too_small(text: str, tokenise: Callable[[str], Encoding], room: int) -> EllaError:
    starts = tokenise(text).starts
    following = bisect_right(starts, starts[0])
    first = text[: starts[following]] if following < len(starts) else text
    return EllaError(
        f"Chunks of {room} tokens beside the LLM's special ones can't hold {first.strip()[:20]!r}, "
        f"which takes {len(tokenise(first).ids)}. In LLM Text Encode (ELLA) set max_length higher "
        f"or to 0, or long_prompt to whole."
    )
