"""An external program, which may need an environment of its own.

It reads a line of JSON per picture from its standard input, and answers each with one on its
standard output, before it reads the next:

    {"picture": "/path/to/picture.png", "questions": ["Is there a cup?", "Is the cup red?"]}
    {"replies": [{"text": "yes", "p_yes": 0.9, "p_no": 0.1}, {"text": "no"}]}

The probabilities may be left out. {"error": "..."} in place of the replies says that this picture
could not be judged.
"""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import EllaError
from ..pictures import Picture
from ..questions import Question
from .base import QUESTION, JudgeFailedError, Reply


class ProgramJudge:
    """A program that is started once and asked line by line. Used as a context manager.

    Args:
        command: program and arguments.
        name: of the judge; empty for the command.
        revision: of the judge, if known.

    Raises:
        EllaError: It can't be started.
    """

    parallel = 1

    def __init__(self, command: Sequence[str], name: str, revision: str) -> None:
        self.name = name or " ".join(command)
        self.revision = revision
        self.template = QUESTION
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
            )
        except OSError as error:
            raise EllaError(f"The judge {self.name} can't be started: {error}") from error

    def __enter__(self) -> "ProgramJudge":
        return self

    def __exit__(self, *_: object) -> None:
        """End the program: there is nothing more to read for it."""
        self._process.communicate()

    def ask(self, picture: Picture, questions: Sequence[Question]) -> list[Reply]:
        """Return a reply to each question."""
        texts = [question.text for question in questions]
        with tempfile.TemporaryDirectory() as folder:
            path = picture.path
            if picture.resolution is not None:  # the program need not know of grids
                path = Path(folder) / "picture.png"
                picture.open().save(path)
            line = self._exchange({"picture": str(path.resolve()), "questions": texts})
        try:
            answer = json.loads(line)
            if "error" in answer:
                raise JudgeFailedError(str(answer["error"]))
            replies = [_reply(each) for each in answer["replies"]]
            if len(replies) != len(questions):
                raise ValueError(f"{len(replies)} replies to {len(questions)} questions")
        except (KeyError, TypeError, ValueError) as error:
            raise EllaError(
                f"The judge {self.name} answered {line.strip()[:200]!r}: {error}. Expected a line "
                'such as {"replies": [{"text": "yes", "p_yes": 0.9, "p_no": 0.1}]}, one for each '
                "question, and nothing else on its standard output."
            ) from error
        return replies

    def _exchange(self, request: dict[str, Any]) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        line = ""
        with suppress(BrokenPipeError):
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        if not line:
            raise EllaError(
                f"The judge {self.name} ended with status {self._process.wait()} when it was asked "
                f"about {request['picture']}. What it said before stands above."
            )
        return line


def _reply(record: dict[str, Any]) -> Reply:
    text = record["text"]
    if not isinstance(text, str):
        raise TypeError(f"`text` is {text!r}")
    return Reply(text, record.get("p_yes"), record.get("p_no"), text)
