"""Answer files: what a judge said about each picture, one JSON object per line."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

from ..errors import EllaError
from .files import locked

#: item_id, proposition_id, crop
Key = tuple[str, int, int]


@dataclass(frozen=True)
class Answer:
    """A judge's answer to one question about one picture.

    Attributes:
        item_id, proposition_id: the question.
        crop: which of the prompt's pictures, from 0.
        answer: what is scored: "yes" or "no", or anything else that the judge said.
        judge, revision, template: which model at which commit was asked with which words around
            the question. Empty where it is not known.
        p_yes, p_no: probabilities of the first token being yes and no, not normalised. None where
            the judge gives none.
        text: what the judge wrote.
    """

    item_id: str
    proposition_id: int
    crop: int
    answer: str
    judge: str = ""
    revision: str = ""
    template: str = ""
    p_yes: float | None = None
    p_no: float | None = None
    text: str = ""

    @property
    def key(self) -> Key:
        """Identity of the question and the picture."""
        return self.item_id, self.proposition_id, self.crop

    @property
    def source(self) -> tuple[str, str, str]:
        """Identity of the judge and its settings."""
        return self.judge, self.revision, self.template


def read_answers(path: Path) -> dict[Key, Answer]:
    """Return the answers of a file by question and picture.

    Raises:
        EllaError: The file is missing; a line is cut off or not an answer; a question is answered
            twice; the answers are of more than one judge.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise EllaError(f"There is no answer file {path}. `judge` writes one.") from error
    return _parse(path, text)


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """Write an answer file anew."""
    with path.open("w", encoding="utf-8") as file:
        _write(file, answers)


class AnswerLog:
    """An answer file that grows.

    Attributes:
        answers: what it holds, by question and picture.
    """

    def __init__(self, file: TextIO, answers: dict[Key, Answer]) -> None:
        self._file = file
        self.answers = answers

    def append(self, answers: Iterable[Answer]) -> None:
        """Add answers. They are on their way to the disk when this returns."""
        answers = list(answers)
        _write(self._file, answers)
        self._file.flush()
        self.answers.update({answer.key: answer for answer in answers})


@contextmanager
def answer_log(path: Path, source: tuple[str, str, str]) -> Iterator[AnswerLog]:
    """Open an answer file to go on with it, or begin it. A last line that was cut off is dropped.

    Args:
        path: the file.
        source: judge, revision and template of the answers that will be added.

    Raises:
        EllaError: Another program is writing this file, or it holds answers of another judge.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        whole = text[: text.rfind("\n") + 1]
        answers = _parse(path, whole)
        found = next((answer.source for answer in answers.values()), source)
        if found != source:
            raise EllaError(
                f"{path} holds answers of {_named(found)}, and now {_named(source)} is asked. "
                "Choose another file: one file holds the answers of one judge."
            )
        with path.open("r+" if text else "w", encoding="utf-8", newline="\n") as file:
            file.truncate(len(whole.encode()))
            file.seek(0, 2)
            yield AnswerLog(file, answers)


def _write(file: TextIO, answers: Iterable[Answer]) -> None:
    for answer in answers:
        file.write(json.dumps(asdict(answer), ensure_ascii=False) + "\n")


def _parse(path: Path, text: str) -> dict[Key, Answer]:
    answers: dict[Key, Answer] = {}
    source = None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        answer = _answer(path, number, line)
        if answer.key in answers:
            raise EllaError(
                f"{path}, line {number}: question {answer.proposition_id} of '{answer.item_id}' is "
                f"answered a second time for picture {answer.crop}. Delete one of the two lines."
            )
        source = source or answer.source
        if answer.source != source:
            raise EllaError(
                f"{path}, line {number}: an answer of {_named(answer.source)} among those of "
                f"{_named(source)}. Keep each judge's answers in a file of its own."
            )
        answers[answer.key] = answer
    return answers


def _answer(path: Path, number: int, line: str) -> Answer:
    try:
        record: dict[str, Any] = json.loads(line)
        known = {field.name: record[field.name] for field in fields(Answer) if field.name in record}
        answer = Answer(**{**known, "item_id": str(record["item_id"])})
        if not isinstance(answer.answer, str):
            raise TypeError(f"`answer` is {answer.answer!r}, not a text")
        if not (isinstance(answer.proposition_id, int) and isinstance(answer.crop, int)):
            raise TypeError("`proposition_id` and `crop` have to be whole numbers")
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise EllaError(
            f"{path}, line {number} is no answer: {error}. If it is the last line, the file is "
            "still being written or was cut off: run `judge` again, which resumes it. "
            "Expected item_id, proposition_id, crop and answer in a JSON object."
        ) from error
    return answer


def _named(source: tuple[str, str, str]) -> str:
    judge, revision, template = source
    parts = [judge or "an unnamed judge", revision, template and f"asked with {template!r}"]
    return ", ".join(part for part in parts if part)
