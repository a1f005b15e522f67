"""From a prompt to token ids, the same in every version of transformers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import EllaError


@dataclass(frozen=True)
class SpecialTokens:
    """The ids that an LLM expects around and beside a text.

    Attributes:
        prefix: ids before each text (Llama's BOS).
        suffix: ids after each text (T5's EOS).
        empty: the id that stands for a text without any token.
        pad: the id that fills up to a fixed length.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    empty: int
    pad: int

    @classmethod
    def of(cls, tokenizer: Any) -> "SpecialTokens":
        """Read them off `tokenizer`, by what it puts around a word."""
        framed = tokenizer("a")["input_ids"]
        word = token_ids(tokenizer, "a")
        if tokenizer.decode(word).strip() != "a":  # transformers also opens an empty file
            raise EllaError("its tokenizer is empty or damaged: it does not know the letter a")
        starts = [i for i in range(len(framed)) if framed[i : i + len(word)] == word]
        if not starts:
            raise EllaError("its tokenizer reads a text differently beside its special tokens")
        start = starts[0]
        return cls.first_known(
            tuple(framed[:start]),
            tuple(framed[start + len(word) :]),
            bos=tokenizer.bos_token_id,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
        )

    @classmethod
    def first_known(
        cls,
        prefix: tuple[int, ...],
        suffix: tuple[int, ...],
        bos: int | None,
        eos: int | None,
        pad: int | None,
    ) -> "SpecialTokens":
        """Fill `empty` and `pad` with the first of the LLM's own special ids that it has."""
        known = [token for token in (bos, eos, pad) if token is not None] or [0]
        return cls(prefix, suffix, empty=known[0], pad=known[-1])

    def frame(self, ids: Sequence[int]) -> list[int]:
        """Put the LLM's own ids around a text's."""
        return [*self.prefix, *ids, *self.suffix] or [self.empty]

    def __len__(self) -> int:
        """How many ids `frame` adds."""
        return len(self.prefix) + len(self.suffix)


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of `text` alone, without special tokens."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def windows(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Cut `ids` into pieces of at most `size`; an empty text is one empty piece."""
    for start in range(0, max(len(ids), 1), size):
        yield ids[start : start + size]
