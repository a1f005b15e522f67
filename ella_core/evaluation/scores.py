"""Scores of prompts, pictures and questions, whatever protocol they come from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from .answers import Answer
from .questions import Item, Question


@dataclass(frozen=True)
class QuestionScore:
    """Result of one question about one picture.

    Attributes:
        answer: the judge's.
        before: 0 to 1, what the answer is worth by itself.
        value: 0 to 1, what it is worth beside the others.
        zeroed_by: numbers of the parents because of which a yes is worth nothing.
    """

    question: Question
    answer: Answer
    before: float
    value: float
    zeroed_by: tuple[int, ...] = ()


@dataclass(frozen=True)
class PictureScore:
    """A picture's score, 0 to 1, and that of its questions."""

    value: float
    questions: tuple[QuestionScore, ...]


@dataclass(frozen=True)
class ItemScore:
    """A prompt's score and that of its pictures."""

    item: Item
    pictures: tuple[PictureScore, ...]

    @property
    def mean(self) -> float:
        """The mean over its pictures, 0 to 1."""
        return sum(picture.value for picture in self.pictures) / len(self.pictures)


@dataclass
class Tally:
    """A mean that is kept by prompt, so that it can be resampled.

    Attributes:
        sums, counts: of the values, by prompt.
    """

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, item_id: str, value: float) -> None:
        """Take in a value."""
        self.sums[item_id] = self.sums.get(item_id, 0.0) + value
        self.counts[item_id] = self.counts.get(item_id, 0) + 1

    @property
    def mean(self) -> float:
        """The mean over all values."""
        return sum(self.sums.values()) / sum(self.counts.values())


@dataclass
class Score:
    """Scores that a protocol computes from a set of answers.

    Attributes:
        benchmark: what was measured, such as "DPG-Bench".
        protocol: by which rules.
        note: what the means by category are means of, and how they differ from the score.
        scale: what a published score of 1 is multiplied by: 100 where percent are usual.
        items: prompts that count, by id.
        failed: prompts that the protocol drops, each with the reason.
        l1, l2: means by category, broad and detailed.
        unclear: answers that are neither yes nor no to the protocol, and count as no.
    """

    benchmark: str
    protocol: str
    note: str
    scale: float
    items: dict[str, ItemScore]
    failed: dict[str, str] = field(default_factory=dict)
    l1: dict[str, Tally] = field(default_factory=dict)
    l2: dict[str, Tally] = field(default_factory=dict)
    unclear: int = 0

    @property
    def total(self) -> Tally:
        """The mean over prompts."""
        tally = Tally()
        for item_id, score in self.items.items():
            tally.add(item_id, score.mean)
        return tally

    @property
    def score(self) -> float:
        """The mean over prompts, in the protocol's scale."""
        return self.scale * fmean(score.mean for score in self.items.values())

    def as_json(self) -> dict[str, Any]:
        """Return the scores by name. `per_prompt` is 0 to 1, all else in the protocol's scale."""
        return {
            "benchmark": self.benchmark,
            "protocol": self.protocol,
            "score": self.score,
            "l1": {name: self.scale * tally.mean for name, tally in self.l1.items()},
            "l2": {name: self.scale * tally.mean for name, tally in self.l2.items()},
            "per_prompt": {
                item_id: {
                    "pictures": [picture.value for picture in score.pictures],
                    "mean": score.mean,
                }
                for item_id, score in self.items.items()
            },
            "failed": list(self.failed),
            "failed_because": self.failed,
            "unclear": self.unclear,
        }


def tally_questions(
    items: Iterable[ItemScore],
    category: Callable[[Question], str],
    value: Callable[[QuestionScore], float],
) -> dict[str, Tally]:
    """Return the mean over questions and pictures by category, in the order they come up in."""
    found: dict[str, Tally] = {}
    for score in items:
        for picture in score.pictures:
            for question in picture.questions:
                name = category(question.question)
                found.setdefault(name, Tally()).add(score.item.item_id, value(question))
    return found
