"""From a prompt to token ids, the same in every version of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import EllaError


@dataclass(frozen=True)
class Encoding:
    """Token ids of a text and where each token lies in it.

    Attributes:
        ids: one for each token.
        offsets: first character of each token and the one behind its last; None where the
            tokenizer can't say.
    """

    ids: list[int]
    offsets: list[tuple[int, int]] | None

    @property
    def starts(self) -> list[int]:
        """First character of each token.

        Raises:
            EllaError: the tokenizer can't say.
        """
        if self.offsets is None:
            raise EllaError(
                "Weights such as (word:1.2) and long_prompt chunk need to know which words each "
                "token stands for, and this LLM's tokenizer can't say (it is a slow one, in "
                "transformers' terms). In LLM Text Encode (ELLA) take the weights out and set "
                "long_prompt to whole, or choose an LLM with a tokenizer.json in Load LLM (ELLA)."
            )
        return [start for start, _ in self.offsets]


@dataclass(frozen=True)
class SpecialTokens:
    """Ids that an LLM expects around and beside a text.

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
        """Find out what `tokenizer` puts around a word.

        Raises:
            EllaError: the tokenizer is empty or damaged.
        """
        framed = tokenizer("a")["input_ids"]
        word = tokenise(tokenizer, "a").ids
        if tokenizer.decode(word).strip() != "a":  # transformers opens an empty file without error
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
        """Return the number of ids that `frame` adds."""
        return len(self.prefix) + len(self.suffix)


def whole_characters(text: str) -> str:
    """Join or replace halves of surrogate pairs, which JSON may bring and tokenizers refuse."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def tokenise(tokenizer: Any, text: str) -> Encoding:
    """Return the tokens of `text` alone, without special ones."""
    encoding = tokenizer(
        text,
        add_special_tokens=False,
        verbose=False,
        return_offsets_mapping=tokenizer.is_fast,
    )
    return Encoding(encoding["input_ids"], encoding.get("offset_mapping"))


def windows(tokens: int, size: int) -> list[slice]:
    """Cut this number of tokens into pieces of at most `size`; no token makes one empty piece."""
    return [slice(start, start + size) for start in range(0, max(tokens, 1), size)]
