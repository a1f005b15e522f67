"""The interface of every judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..answers import Answer
from ..pictures import Picture
from ..questions import Question

#: The template of judges that are asked the bare question.
QUESTION = "{question}"


class JudgeFailedError(Exception):
    """A picture could not be judged; others may."""


@dataclass(frozen=True)
class Reply:
    """A judge's answer to one question.

    Attributes:
        answer: what is scored: yes or no, or whatever else it said.
        p_yes, p_no: probabilities of yes and no as its first token, not normalised; None if it
            gives none.
        text: what it wrote.
    """

    answer: str
    p_yes: float | None
    p_no: float | None
    text: str


def yes_or_no(text: str) -> str:
    """Return the first word of a chat model's text if that is yes or no, else the whole text."""
    words = text.split(maxsplit=1)
    first = words[0].strip(".,:;!'\"*").casefold() if words else ""
    return first if first in ("yes", "no") else text


class Judge(Protocol):
    """Answers questions about pictures.

    Attributes:
        name: of the model.
        revision: its commit; empty if unknown.
        template: the words around a question, which stands for `{question}`.
        parallel: how many pictures it may be asked about at the same time, each from a thread.
    """

    name: str
    revision: str
    template: str
    parallel: int

    def ask(self, picture: Picture, questions: Sequence[Question]) -> list[Reply]:
        """Return a reply to each question.

        Raises:
            JudgeFailedError: This picture could not be judged.
            EllaError: No picture can.
        """


def to_answer(judge: Judge, picture: Picture, question: Question, reply: Reply) -> Answer:
    """Return a reply as it stands in an answer file."""
    return Answer(
        picture.item_id,
        question.proposition_id,
        picture.crop,
        reply.answer,
        judge.name,
        judge.revision,
        judge.template,
        reply.p_yes,
        reply.p_no,
        reply.text,
    )
