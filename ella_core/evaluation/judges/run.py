"""Asking a judge about all pictures."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from ...errors import EllaError
from ..answers import AnswerLog
from ..pictures import Picture
from ..questions import Item, Question
from .base import Judge, JudgeFailedError, to_answer

_HOPELESS = 8  # as many pictures in a row that can't be judged mean that the fault is not theirs

Task = tuple[Picture, list[Question]]


def unanswered(items: Sequence[Item], pictures: Sequence[Picture], log: AnswerLog) -> list[Task]:
    """Return the pictures with the questions that are not answered yet, if there are any."""
    questions = {item.item_id: item.questions for item in items}
    tasks = [
        (
            picture,
            [
                question
                for question in questions[picture.item_id]
                if (picture.item_id, question.proposition_id, picture.crop) not in log.answers
            ],
        )
        for picture in pictures
    ]
    return [task for task in tasks if task[1]]


def ask_all(
    judge: Judge, tasks: Sequence[Task], log: AnswerLog, on_end: Callable[[], object]
) -> dict[Picture, str]:
    """Ask about each picture and add the answers to the log.

    Args:
        judge: asked about several pictures at a time if it can.
        tasks: pictures and questions.
        log: gets the answers, picture by picture.
        on_end: called as often as a picture is done or has failed.

    Returns:
        The pictures that could not be judged, and why.

    Raises:
        EllaError: The judge can't go on, or many pictures in a row failed.
    """
    failed: dict[Picture, str] = {}
    in_row = 0
    with ThreadPoolExecutor(judge.parallel) as pool:
        try:
            waiting = {pool.submit(judge.ask, *task): task for task in tasks}
            for future in as_completed(waiting):
                picture, questions = waiting[future]
                try:
                    replies = future.result()
                except JudgeFailedError as error:
                    failed[picture] = str(error)
                    in_row += 1
                else:
                    pairs = zip(questions, replies, strict=True)
                    log.append(to_answer(judge, picture, *pair) for pair in pairs)
                    in_row = 0
                on_end()
                if in_row == _HOPELESS:
                    raise EllaError(
                        f"{_HOPELESS} pictures in a row could not be judged, the last one "
                        f"{picture.path.name}: {failed[picture]}. Mend the judge and run the same "
                        "command again: it goes on from here."
                    )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return failed
