"""Tokens that say yes and no.

Shapes: B questions, V tokens of the vocabulary.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import EllaError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class YesNo:
    """Ids of all tokens that say yes or no, whatever their case and the space around them."""

    yes: tuple[int, ...]
    no: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any) -> "YesNo":
        """Find them in a tokenizer's vocabulary.

        Raises:
            EllaError: It has none for one of the words.
        """
        texts = tokenizer.batch_decode([[id_] for id_ in range(len(tokenizer))])
        found = {
            word: tuple(id_ for id_, text in enumerate(texts) if text.strip().casefold() == word)
            for word in ("yes", "no")
        }
        for word, ids in found.items():
            if not ids:
                raise EllaError(
                    f"The judge's tokenizer has no token for {word!r}, so that its probability "
                    "can't be read at the first token. Choose another model."
                )
        return cls(found["yes"], found["no"])

    def probabilities(self, logits_BV: "torch.Tensor") -> list[tuple[float, float]]:
        """Return P(yes) and P(no) for each row, summed over their tokens."""
        p_BV = logits_BV.float().softmax(-1)
        yes, no = (p_BV[:, list(ids)].sum(-1).tolist() for ids in (self.yes, self.no))
        return list(zip(yes, no, strict=True))
