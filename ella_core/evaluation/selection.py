"""The answers that a protocol needs, out of those that there are."""

from collections.abc import Iterator, Sequence

from ..errors import EllaError
from .answers import Answer, Key
from .questions import Item
from .scores import Score


def select(
    items: Sequence[Item], answers: dict[Key, Answer], pictures: int
) -> Iterator[tuple[Item, list[dict[int, Answer]]]]:
    """Yield each prompt with the answers about its first pictures, by question.

    Raises:
        EllaError: Answers are missing, or one is to a question that is not in the file.
    """
    wanted = [
        (item.item_id, question.proposition_id, crop)
        for item in items
        for question in item.questions
        for crop in range(pictures)
    ]
    missing = [key for key in wanted if key not in answers]
    if missing:
        item_id, number, crop = missing[0]
        raise EllaError(
            f"{len(missing)} of {len(wanted)} answers are missing, the first of them to question "
            f"{number} of '{item_id}' about picture {crop}. Run `judge` to the end, or give a "
            "question file and --pictures that have only what was judged."
        )
    for item in items:
        numbers = [question.proposition_id for question in item.questions]
        yield (
            item,
            [
                {number: answers[item.item_id, number, crop] for number in numbers}
                for crop in range(pictures)
            ],
        )


def check_left(result: Score) -> None:
    """Raise `EllaError` if the protocol has dropped every prompt."""
    if not result.items:
        reasons = "; ".join(f"'{item}': {reason}" for item, reason in result.failed.items())
        raise EllaError(f"No prompt is left to score under {result.protocol}. {reasons}")
