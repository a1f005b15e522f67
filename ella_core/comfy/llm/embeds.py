"""What travels on the ELLA_LLM_EMBEDS wire."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import PLAIN, LLMIdentity, PromptTemplate, ReadingRecipe
from ...errors import EllaError

if TYPE_CHECKING:
    from ...text_encoders import EncodedPrompt

Parts = tuple[tuple["EncodedPrompt", float], ...]


@dataclass(frozen=True)
class Asked:
    """A text to read, and how; the arguments of `LLM.encode`."""

    text: str
    max_length: int
    chunked: bool = False
    markup: bool = True
    template: PromptTemplate | None = None


@dataclass(frozen=True)
class LLMEmbeds:
    """ELLA_LLM_EMBEDS: a weighted mix of prompts, each as an LLM has read it.

    Prompts differ in length, so their features can't be averaged. Their contexts can: the mix is
    taken there, at every timestep.

    Attributes:
        parts: each prompt, its features on ComfyUI's intermediate device, and its weight.
        empty: the same for the empty prompt, which a strength of 0 stands for.
        llm: the LLM's name in its dropdown.
        recipe: how they were read, apart from a template of the user's; each prompt has its own.
        read_again: gives the same, read under another recipe; None if that can't be done.
        asked: the text, and how it was read; None for a mix of several.
        path: where the LLM lies.
    """

    parts: Parts
    empty: Parts
    llm: str
    recipe: ReadingRecipe = PLAIN
    read_again: "Callable[[ReadingRecipe], LLMEmbeds] | None" = None
    asked: Asked | None = None
    path: Path | None = None

    @property
    def width(self) -> int:
        """Width D of the LLM's features."""
        return self.parts[0][0].features.shape[-1]

    @property
    def identity(self) -> LLMIdentity | None:
        """Facts that tell the LLM from others of its width; None if unknown."""
        return self.parts[0][0].llm

    @property
    def tokens(self) -> int:
        """Tokens of its longest prompt, special ones included, padding excluded."""
        return max(prompt.tokens for prompt, _ in self.parts)

    def under(self, recipe: ReadingRecipe) -> "LLMEmbeds":
        """Return the same, read under `recipe`.

        LLM Text Encode (ELLA) does not know which connector will read what it makes. So it reads
        in the LLM's usual way, and what a connector wants read otherwise is read again.

        Raises:
            EllaError: see `LLM.encode`.
        """
        if recipe == self.recipe:
            return self
        assert self.read_again is not None
        return self.read_again(recipe)

    def with_strength(self, strength: float) -> "LLMEmbeds":
        """Mix the empty prompt (0) and the prompt (1); more overdrives the prompt."""
        return replace(
            self,
            asked=self.asked if strength == 1 else None,
            parts=_mix((self.parts, strength), (self.empty, 1 - strength)),
            read_again=lambda recipe: self.under(recipe).with_strength(strength),
        )

    def blended_with(self, other: "LLMEmbeds", factor: float) -> "LLMEmbeds":
        """Mix this prompt (0) and the other (1).

        Raises:
            EllaError: another LLM has read the other.
        """
        self.check_same_llm(other)
        return replace(
            self,
            asked=None,
            parts=_mix((self.parts, 1 - factor), (other.parts, factor)),
            empty=_mix((self.empty, 1 - factor), (other.empty, factor)),
            read_again=lambda recipe: self.under(recipe).blended_with(other.under(recipe), factor),
        )

    def check_same_llm(self, other: "LLMEmbeds") -> None:
        """Refuse two prompts that two LLMs have read, because a connector knows one LLM.

        Embeds from a file carry the name that the LLM has where they were saved, so the names
        decide only where nothing else is known.

        Raises:
            EllaError: two LLMs have read them.
        """
        if self.identity and other.identity:
            same = self.identity == other.identity
        else:
            same = self.llm == other.llm
        if not same or self.width != other.width:
            raise EllaError(
                f"One prompt was read by {self.llm}, the other by {other.llm}. Connect both "
                f"LLM Text Encode (ELLA) nodes to the same Load LLM (ELLA), and save embeds of a "
                f"file again with it."
            )


def _mix(*groups: tuple[Parts, float]) -> Parts:
    """Scale each group of parts by its weight and add up the weights of each prompt."""
    mixed: dict[EncodedPrompt, float] = {}
    for parts, scale in groups:
        for prompt, weight in parts:
            mixed[prompt] = mixed.get(prompt, 0.0) + weight * scale
    return tuple((prompt, weight) for prompt, weight in mixed.items() if weight != 0)
