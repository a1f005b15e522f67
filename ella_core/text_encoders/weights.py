r"""Prompt weights: `(words:1.3)` in a text, and which tokens they belong to.

- The number is a plain decimal from 0 to 10, spaces around it allowed.
- Weighted parentheses inside each other multiply.
- Parentheses without such a number, or without a partner, are prose and stay. So `(at 10:30)` is
  prose, for 30 is out of range; `(ratio 16:9)` is not, and has to be written `\(ratio 16:9\)`.
- `\(` and `\)` are parentheses that are always prose. Any other backslash is itself.
"""

import re
from collections.abc import Iterable, Sequence

# Each alternative is tried from a character of its own and runs over characters that no other
# match begins with, so that searching takes time in proportion to the text.
_MARKUP = re.compile(
    r"""
    \\[()]
    | \(
    | :\s*(?P<weight> 10(\.0+)? | [0-9](\.[0-9]+)? | \.[0-9]+ )\s*\)
    | \)
    """,
    re.VERBOSE,
)


def parse(text: str) -> tuple[str, list[float]]:
    """Take the markup out of a prompt.

    Args:
        text: any text; nothing in it is an error.

    Returns:
        The text that the LLM reads, and a weight for each of its characters.
    """
    marks = list(_MARKUP.finditer(text))
    opening, closing = _weighted_groups(marks)
    plain: list[str] = []
    weights: list[float] = []
    nested = [1.0]  # weight of the text here, and of what surrounds each open group

    def keep(words: str) -> None:
        plain.append(words)
        weights.extend([nested[-1]] * len(words))

    end = 0
    for mark in marks:
        keep(text[end : mark.start()])
        end = mark.end()
        if mark.start() in opening:
            nested.append(nested[-1] * opening[mark.start()])
        elif mark.start() in closing:
            nested.pop()
        else:
            keep(mark.group().removeprefix("\\"))
    keep(text[end:])
    return "".join(plain), weights


def _weighted_groups(marks: Iterable[re.Match[str]]) -> tuple[dict[int, float], set[int]]:
    """Where weighted groups open, with their weights, and where they close."""
    opening: dict[int, float] = {}
    closing: set[int] = set()
    unclosed: list[int] = []
    for mark in marks:
        if mark.group() == "(":
            unclosed.append(mark.start())
        elif mark.group()[0] in ":)" and unclosed:
            start = unclosed.pop()
            if mark["weight"]:
                opening[start] = float(mark["weight"])
                closing.add(mark.start())
    return opening, closing


def token_weights(text: str, weights: Sequence[float], starts: Iterable[int]) -> list[float]:
    """The weight of each token: that of its first character that is no space.

    Spaces belong to the word behind them, as tokenizers have it. So a token of nothing but spaces
    has the weight of what follows. (Versions of transformers differ in whether T5's lone space
    mark lies on the space or on the word.)

    Args:
        text: what the LLM reads.
        weights: one for each of its characters.
        starts: at which character each token begins.
    """
    carried = [*weights, 1.0]  # a token at the very end has no character
    for i in range(len(text) - 2, -1, -1):
        if text[i].isspace():
            carried[i] = carried[i + 1]
    return [carried[start] for start in starts]
