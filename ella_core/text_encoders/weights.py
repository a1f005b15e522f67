r"""Prompt weights: `(words:1.3)` in a text, and which tokens they belong to.

- The number is a plain decimal from 0 to 10. ComfyUI's CLIP reads all of these as weights too.
- Weighted parentheses inside each other multiply.
- Where prose has a colon and a number, there is no weight: after a digit (`(ratio 16:9)`, `(scale
  1:5)`, `(at 7:05)`), and before a space and a whole number (`(note: 3)`). `(year 1980, :1.3)`
  weighs words that end in a digit.
- Parentheses without a weight, or without a partner, stay in the text.
- `\(` and `\)` are parentheses that are always prose. Any other backslash is itself.
"""

import re
from collections.abc import Iterable, Sequence

# Each alternative begins with another character and runs over characters that no match begins
# with, so that searching takes linear time.
_MARKUP = re.compile(
    r"""
    \\[()]
    | \(
    | :(?P<weight> 10 | [0-9] | \s*(10\.0+ | [0-9]?\.[0-9]+) )\s*\)
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
    opening, closing = _weighted_groups(text, marks)
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


def _weighted_groups(
    text: str, marks: Iterable[re.Match[str]]
) -> tuple[dict[int, float], set[int]]:
    """Return where weighted groups open, with their weights, and where they close."""
    opening: dict[int, float] = {}
    closing: set[int] = set()
    unclosed: list[int] = []
    for mark in marks:
        if mark.group() == "(":
            unclosed.append(mark.start())
        elif mark.group()[0] in ":)" and unclosed:
            start = unclosed.pop()
            if mark["weight"] and not _is_after_digit(text, mark.start()):
                opening[start] = float(mark["weight"])
                closing.add(mark.start())
    return opening, closing


def _is_after_digit(text: str, end: int) -> bool:
    while end and text[end - 1].isspace():
        end -= 1
    return end > 0 and text[end - 1].isdecimal()


def token_weights(text: str, weights: Sequence[float], starts: Iterable[int]) -> list[float]:
    """Return the weight of each token: that of its first character that is no space.

    Tokenizers join spaces to the word behind them, so a token of spaces alone has the weight of
    the text after it. (Versions of transformers differ in whether T5's lone space mark lies on
    the space or on the word.)

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
