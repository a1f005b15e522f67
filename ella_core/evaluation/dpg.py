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

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .answers import Answer, Key
from .questions import Item, Question, Row, group
from .scores import ItemScore, PictureScore, QuestionScore, Score, tally_questions
from .selection import check_left, select

PROTOCOLS = ("official", "fixed")
_NOTES = {
    "official": "mean over questions of the last picture, before zeroing; not comparable with the "
    "score, which is after it",
    "fixed": "mean over questions of all pictures, after zeroing; the score is a mean over "
    "prompts, so it is not the mean of these",
}


class _DroppedError(Exception):
    """The published script would fail here, and leave the prompt out."""


def score_dpg(
    rows: Sequence[Row], answers: dict[Key, Answer], protocol: str, pictures: int
) -> Score:
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
    result = Score("DPG-Bench", protocol, _NOTES[protocol], 100, {})
    for item, selected in select(items, answers, pictures):
        try:
            result.items[item.item_id] = ItemScore(
                item, tuple(_score_picture(item, answers, official) for answers in selected)
            )
        except _DroppedError as error:
            result.failed[item.item_id] = str(error)
        texts = (answer.answer for of_picture in selected for answer in of_picture.values())
        result.unclear += sum(read_answer(text, official) not in ("yes", "no") for text in texts)
    if official and rows[0].item_id not in {item.item_id for item in items}:
        result.failed[rows[0].item_id] = "its only row is the first, which the script skips"
    check_left(result)
    _add_categories(result, official)
    return result


def zero_in_order(questions: Sequence[Question], yes: dict[int, bool]) -> dict[int, bool]:
    """Return which questions count if each is compared with its parents once, in the file's order.

    A parent further down counts by its answer alone, as in the published script.
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
    or not at all. A parent that is not there is ignored.
    """
    counts = dict(yes)
    changed = True
    while changed:
        changed = False
        for question in questions:
            if counts[question.proposition_id] and _zeroing_parents(question, counts):
                counts[question.proposition_id] = False
                changed = True
    return counts


def _zeroing_parents(question: Question, counts: dict[int, bool]) -> tuple[int, ...]:
    return tuple(parent for parent in question.parents if not counts.get(parent, True))


def _score_picture(item: Item, answers: dict[int, Answer], official: bool) -> PictureScore:
    yes = {
        number: read_answer(answer.answer, official) == "yes" for number, answer in answers.items()
    }
    counts = (zero_in_order if official else zero_all)(item.questions, yes)
    scores = []
    for question in item.questions:
        number = question.proposition_id
        zeroed = yes[number] and not counts[number]
        parents = _zeroing_parents(question, counts) if zeroed else ()
        scores.append(
            QuestionScore(
                question, answers[number], float(yes[number]), float(counts[number]), parents
            )
        )
    return PictureScore(sum(counts.values()) / len(counts), tuple(scores))


def read_answer(answer: str, exactly: bool) -> str:
    """Return what a protocol compares with "yes"."""
    return answer if exactly else answer.strip().rstrip(".").lower()


def _last_runs(rows: Iterable[Row]) -> list[Item]:
    """Gather rows as the published script does: a prompt that comes up again starts afresh."""
    items: dict[str, Item] = {}
    previous = None
    for row in rows:
        if row.item_id != previous:
            items[row.item_id] = Item(row.item_id, row.prompt, ())
        item = items[row.item_id]
        questions = {question.proposition_id: question for question in item.questions}
        questions[row.question.proposition_id] = row.question
        items[row.item_id] = replace(item, questions=tuple(questions.values()))
        previous = row.item_id
    return list(items.values())


def _add_categories(result: Score, official: bool) -> None:
    scores = list(result.items.values())
    if official:
        scores = [replace(score, pictures=score.pictures[-1:]) for score in scores]

    def value(question: QuestionScore) -> float:
        return question.before if official else question.value

    result.l1 = tally_questions(scores, lambda question: question.level1, value)
    result.l2 = tally_questions(scores, lambda question: question.category, value)
