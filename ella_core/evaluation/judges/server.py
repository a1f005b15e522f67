"""A judge behind an OpenAI-compatible server, such as vLLM."""

import base64
import io
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...errors import EllaError
from ..pictures import Picture
from ..questions import Question
from .base import JudgeFailedError, Reply, yes_or_no

_NEW_TOKENS = 8  # enough for "Yes, it is."
_TOP = 20  # logprobs per token, the most that OpenAI and vLLM give unless told otherwise
_TRIES = 5
_PAUSE = 1.0  # seconds before the second try; 3 before the third, and so on
_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
_ALWAYS = (401, 403, 404)  # what one request is answered, all are
_T = TypeVar("_T")


class ServerJudge:
    """A chat model that gives the log probabilities of its tokens.

    The environment variable OPENAI_API_KEY is sent if it is set.

    Args:
        address: up to and without /v1.
        model: its name there; empty for the only one.
        revision: of the model, if known.
        template: the words around a question.
        parallel: pictures at a time.
        timeout: seconds for an answer.

    Raises:
        EllaError: The server isn't reached, or hasn't that model.
    """

    def __init__(
        self,
        address: str,
        model: str,
        revision: str,
        template: str,
        parallel: int,
        timeout: float = 120,
    ) -> None:
        import requests

        self.revision = revision
        self.template = template
        self.parallel = parallel
        self._base = address.rstrip("/").removesuffix("/v1") + "/v1"
        self._timeout = timeout
        self._session = requests.Session()
        self._session.mount("", requests.adapters.HTTPAdapter(pool_maxsize=parallel))
        if key := os.environ.get("OPENAI_API_KEY"):
            self._session.headers["Authorization"] = f"Bearer {key}"
        self.name = self._model(model)

    def ask(self, picture: Picture, questions: Sequence[Question]) -> list[Reply]:
        """Return a reply to each question."""
        file = io.BytesIO()
        picture.open().save(file, format="PNG")
        url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        return [self._ask(url, question.text) for question in questions]

    def _ask(self, url: str, question: str) -> Reply:
        text = self.template.replace("{question}", question)
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": text},
        ]
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": _NEW_TOKENS,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": _TOP,
        }
        return self._request("POST", "/chat/completions", _reply, json=body)

    def _model(self, wanted: str) -> str:
        try:
            names = self._request("GET", "/models", _names)
        except JudgeFailedError as error:
            raise EllaError(f"{self._base} is no OpenAI-compatible server: {error}") from error
        if wanted in names or (not wanted and len(names) == 1):
            return wanted or names[0]
        raise EllaError(
            f"{self._base} has the models {', '.join(names)}"
            + (f", not {wanted}." if wanted else ". Choose one with --model.")
        )

    def _request(self, method: str, path: str, parse: Callable[[Any], _T], json: Any = None) -> _T:
        """Send a request, several times if need be, and return what `parse` makes of the answer.

        Raises:
            JudgeFailedError: It gets no answer that can be read.
            EllaError: No other request will either.
        """
        import requests

        problem = ""
        for attempt in range(_TRIES):
            time.sleep(_PAUSE * (2**attempt - 1))
            lost = False
            try:
                answer = self._session.request(
                    method, self._base + path, json=json, timeout=self._timeout
                )
                if answer.status_code < 400:
                    return parse(answer.json())
                problem = f"{answer.status_code}: {answer.text[:200]}"
                if answer.status_code not in _RETRIED:
                    lost = answer.status_code in _ALWAYS
                    break
            except EllaError:
                raise
            except requests.ConnectionError as error:
                problem, lost = str(error), True
            except (requests.RequestException, LookupError, TypeError, ValueError) as error:
                problem = f"no usable answer: {error!r}"
        if lost:
            raise EllaError(
                f"The judge at {self._base} can't be asked: {problem}. Mend it and run the same "
                "command again: it goes on from here."
            )
        raise JudgeFailedError(problem)


def _names(answer: dict[str, Any]) -> list[str]:
    """Read the list of models."""
    return [model["id"] for model in answer["data"]]


def _reply(answer: dict[str, Any]) -> Reply:
    """Read a chat completion.

    Raises:
        LookupError, TypeError, ValueError: It is none.
        EllaError: It has no log probabilities.
    """
    choice = answer["choices"][0]
    text = str(choice["message"]["content"])
    if not choice.get("logprobs"):
        raise EllaError(
            "The judge's server gives no log probabilities (`logprobs` is empty), from which "
            "P(yes) and P(no) are read. Choose a server or a model that does."
        )
    likely = choice["logprobs"]["content"][0]["top_logprobs"]
    total = {"yes": 0.0, "no": 0.0}
    for token in likely:
        word = token["token"].strip().casefold()
        if word in total:
            total[word] += math.exp(token["logprob"])
    return Reply(yes_or_no(text), total["yes"], total["no"], text)
