"""DPG-Bench's arithmetic, as in its authors' `dpg_bench/compute_dpg_bench.py`.

A question counts if it is answered with yes and all questions that it depends on count. A picture's
score is the mean over its questions, a prompt's the mean over its pictures, and the benchmark's the
mean over prompts.

`official` is the published script to the letter, so that a score can stand beside published ones.
`fixed` is what the script was meant to do. They differ so:

| | official | fixed |
|---|---|---|
| first row of the question file | never asked | asked as the others |
| a parent that is not in the file | the prompt leaves the mean | the question stands without it |
| an answer counts as yes if it is | exactly "yes" | "yes" but for case, spaces and a full stop |
| parents are compared | once, in the order of the file | until nothing changes |
| level 1 and 2 | last picture only, before zeroing | all pictures, after zeroing |
| rows of a prompt in several places | the last run of rows | all |
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from ..errors import EllaError
from .answers import Answer, Key
from .questions import Item, Question, Row, group

PROTOCOLS = ("official", "fixed")


@dataclass(frozen=True)
class QuestionScore:
    """What became of one question about one picture.

    Attributes:
        proposition_id: the question.
        answer: the judge's.
        yes: whether the protocol reads it as yes.
        counted: whether it counts after zeroing.
        zeroed_by: the parents that don't count, by their numbers.
    """

    proposition_id: int
    answer: str
    yes: bool
    counted: bool
    zeroed_by: tuple[int, ...] = ()


@dataclass(frozen=True)
class ItemScore:
    """A prompt's score.

    Attributes:
        pictures: each picture's score, 0 to 1.
        questions: for each picture, its questions.
    """

    item: Item
    pictures: list[float]
    questions: list[list[QuestionScore]]

    @property
    def mean(self) -> float:
        """The mean over the pictures."""
        return sum(self.pictures) / len(self.pictures)


@dataclass
class DpgScore:
    """What a protocol makes of a set of answers. Scores are 0 to 100, those of prompts 0 to 1.

    Attributes:
        items: prompts that count, by id.
        failed: prompts that the published script drops, each with the reason.
        l1, l2: means over questions by category.
    """

    protocol: str
    items: dict[str, ItemScore]
    failed: dict[str, str] = field(default_factory=dict)
    l1: dict[str, float] = field(default_factory=dict)
    l2: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The benchmark's score: the mean over prompts."""
        return 100 * fmean(score.mean for score in self.items.values())


class _DroppedError(Exception):
    """The published script would fail here, and leave the prompt out."""


def score_dpg(
    rows: Sequence[Row], answers: dict[Key, Answer], protocol: str, pictures: int
) -> DpgScore:
    """Score the answers to the questions of a file.

    Args:
        rows: the file's questions in its order.
        answers: by question and picture.
        protocol: one of `PROTOCOLS`.
        pictures: how many of each prompt are scored, the first ones.

    Raises:
        EllaError: Answers are missing, or no prompt is left.
    """
    official = protocol == "official"
    items = _last_runs(rows[1:]) if official else group(rows)
    result = DpgScore(protocol, {})
    unanswered: list[Key] = []
    for item in items:
        of_item = [_answers(item, crop, answers, unanswered) for crop in range(pictures)]
        if not all(len(texts) == len(item.questions) for texts in of_item):
            continue
        try:
            result.items[item.item_id] = _score_item(item, of_item, official)
        except _DroppedError as error:
            result.failed[item.item_id] = str(error)
    if official and rows[0].item_id not in {item.item_id for item in items}:
        result.failed[rows[0].item_id] = "its only row is the first, which the script skips"
    _check(unanswered, result)
    result.l1 = _means(result.items.values(), lambda question: question.level1, official)
    result.l2 = _means(result.items.values(), lambda question: question.category, official)
    return result


def is_yes(answer: str, exactly: bool) -> bool:
    """Whether an answer is read as yes: `exactly` that, or but for case, spaces and a full stop."""
    return answer == "yes" if exactly else answer.strip().rstrip(".").lower() == "yes"


def zero_in_order(questions: Sequence[Question], yes: dict[int, bool]) -> dict[int, bool]:
    """Return which questions count if each is compared with its parents once, in the file's order.

    A parent further down counts by its answer alone, as the published script has it.
    """
    counts = dict(yes)
    for question in questions:
        for parent in question.parents:
            if parent not in counts:
                raise _DroppedError(
                    f"question {question.proposition_id} depends on question {parent}, which the "
                    "script doesn't know"
                )
            if not counts[parent]:
                counts[question.proposition_id] = False
                break
    return counts


def zero_all(questions: Sequence[Question], yes: dict[int, bool]) -> dict[int, bool]:
    """Return which questions count: those answered with yes whose parents all count.

    The order of the questions does not matter. Questions that depend on each other count together
    or not at all. A parent that is not there is left out of account.
    """
    counts = dict(yes)
    changed = True
    while changed:
        changed = False
        for question in questions:
            if counts[question.proposition_id] and not all(
                counts.get(parent, True) for parent in question.parents
            ):
                counts[question.proposition_id] = False
                changed = True
    return counts


def _score_item(item: Item, pictures: Sequence[dict[int, str]], official: bool) -> ItemScore:
    zero = zero_in_order if official else zero_all
    scores, questions = [], []
    for texts in pictures:
        yes = {number: is_yes(text, exactly=official) for number, text in texts.items()}
        counts = zero(item.questions, yes)
        scores.append(sum(counts.values()) / len(counts))
        questions.append(
            [
                QuestionScore(
                    question.proposition_id,
                    texts[question.proposition_id],
                    yes[question.proposition_id],
                    counts[question.proposition_id],
                    tuple(parent for parent in question.parents if not counts.get(parent, True)),
                )
                for question in item.questions
            ]
        )
    return ItemScore(item, scores, questions)


def _answers(
    item: Item, crop: int, answers: dict[Key, Answer], unanswered: list[Key]
) -> dict[int, str]:
    """Return the answers about one picture by question, and note those that are missing."""
    keys = [(item.item_id, question.proposition_id, crop) for question in item.questions]
    unanswered += [key for key in keys if key not in answers]
    return {key[1]: answers[key].answer for key in keys if key in answers}


def _check(unanswered: Sequence[Key], result: DpgScore) -> None:
    if unanswered:
        item, number, crop = unanswered[0]
        raise EllaError(
            f"{len(unanswered)} answers are missing, the first of them to question {number} of "
            f"'{item}' about picture {crop}. Run `judge` to the end, or give --pictures as many as "
            "were judged and a question file that has only the prompts judged."
        )
    if not result.items:
        raise EllaError(
            "No prompt is left to score: "
            + "; ".join(f"'{item}': {reason}" for item, reason in result.failed.items())
        )


def _last_runs(rows: Iterable[Row]) -> list[Item]:
    """Gather rows as the published script does: a prompt that comes up again starts afresh."""
    questions: dict[str, dict[int, Question]] = {}
    prompts: dict[str, str] = {}
    previous = None
    for row in rows:
        if row.item_id != previous:
            questions[row.item_id] = {}
        questions[row.item_id][row.question.proposition_id] = row.question
        prompts[row.item_id] = prompts.get(row.item_id) or row.prompt
        previous = row.item_id
    return [Item(item, prompts[item], tuple(own.values())) for item, own in questions.items()]


def _means(
    items: Iterable[ItemScore], category: Callable[[Question], str], official: bool
) -> dict[str, float]:
    """Return the mean over questions by category, in the order in which they come up."""
    found: dict[str, list[bool]] = {}
    for score in items:
        pictures = score.questions[-1:] if official else score.questions
        for of_picture in pictures:
            for question, outcome in zip(score.item.questions, of_picture, strict=True):
                counted = outcome.yes if official else outcome.counted
                found.setdefault(category(question), []).append(counted)
    return {name: 100 * fmean(values) for name, values in found.items()}
