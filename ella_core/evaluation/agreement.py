"""Agreement between two judges, or a judge and a person."""

from collections import Counter
from dataclasses import dataclass

from ..errors import EllaError
from .answers import Answer, Key
from .dpg import read_answer


@dataclass(frozen=True)
class Agreement:
    """Answers of two judges to the same questions about the same pictures.

    Attributes:
        table: how often the first and the second said so: (yes or not, yes or not) -> count.
    """

    table: dict[tuple[bool, bool], int]

    @property
    def count(self) -> int:
        """Answers compared."""
        return sum(self.table.values())

    @property
    def percent(self) -> float:
        """Answers that are the same, of 100."""
        return 100 * (self.table[True, True] + self.table[False, False]) / self.count

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa: 1 is full agreement, 0 what chance gives. None if both always say one."""
        first = (self.table[True, True] + self.table[True, False]) / self.count
        second = (self.table[True, True] + self.table[False, True]) / self.count
        chance = first * second + (1 - first) * (1 - second)
        return None if chance == 1 else (self.percent / 100 - chance) / (1 - chance)


def agreement(first: dict[Key, Answer], second: dict[Key, Answer]) -> Agreement:
    """Compare the answers to what both were asked. What isn't yes is no, as in the score.

    Raises:
        EllaError: Nothing was asked of both.
    """
    shared = first.keys() & second.keys()
    if not shared:
        raise EllaError(
            "The two answer files have no question about the same picture in common. Compare "
            "answers about one folder of pictures."
        )

    def is_yes(answer: Answer) -> bool:
        return read_answer(answer.answer, exactly=False) == "yes"

    counts = Counter((is_yes(first[key]), is_yes(second[key])) for key in shared)
    table = {(a, b): counts[a, b] for a in (True, False) for b in (True, False)}
    return Agreement(table)
