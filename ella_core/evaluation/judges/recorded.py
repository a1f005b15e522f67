"""Answers that are in a file already."""

from collections.abc import Sequence
from pathlib import Path

from ...errors import EllaError
from ..answers import read_answers
from ..pictures import Picture
from ..questions import Question
from .base import JudgeFailedError, Reply


class RecordedJudge:
    """The answers of another run or another program, by question and picture.

    Args:
        path: an answer file.

    Raises:
        EllaError: It can't be read, or is empty.
    """

    parallel = 1

    def __init__(self, path: Path) -> None:
        self._answers = read_answers(path)
        if not self._answers:
            raise EllaError(f"{path} has no answers.")
        self.name, self.revision, self.template = next(iter(self._answers.values())).source

    def ask(self, picture: Picture, questions: Sequence[Question]) -> list[Reply]:
        """Return the recorded replies."""
        replies = []
        for question in questions:
            key = (picture.item_id, question.proposition_id, picture.crop)
            if key not in self._answers:
                raise JudgeFailedError(f"question {question.proposition_id} is not answered")
            answer = self._answers[key]
            replies.append(Reply(answer.answer, answer.p_yes, answer.p_no, answer.text))
        return replies
