"""A scripted server that answers as vLLM's OpenAI-compatible one does, and as a bad one would."""

import asyncio
import base64
import io
import math
from collections import Counter

from aiohttp import web
from PIL import Image

from .serving import Serving


class ChatServer(Serving):
    """Says how red a picture is.

    Attributes:
        script: what a question's text holds -> how its requests are answered, one after the other;
            the last one for ever. "ok", a status, "hang", "nonsense" (no JSON), "empty" (JSON of
            another kind), "no logprobs", "maybe".
        asked: how often each question was asked.
        most_at_once: requests that were under way at the same time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.script: dict[str, list[str | int]] = {}
        self.asked: Counter[str] = Counter()
        self.most_at_once = 0
        self._under_way = 0
        self.app.router.add_get("/v1/models", self._models)
        self.app.router.add_post("/v1/chat/completions", self._answer)

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "red-vlm"}]})

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        image, question = body["messages"][0]["content"]
        text = question["text"]
        self.asked[text] += 1
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        await asyncio.sleep(0.02)
        try:
            return await self._scripted(text, _redness(image["image_url"]["url"]))
        finally:
            self._under_way -= 1

    async def _scripted(self, text: str, redness: float) -> web.Response:
        plan = next((plan for part, plan in self.script.items() if part in text), ["ok"])
        act = plan[min(self.asked[text], len(plan)) - 1]
        if act == "hang":
            await asyncio.sleep(60)
        if isinstance(act, int):
            return web.json_response({"error": {"message": "something"}}, status=act)
        if act == "nonsense":
            return web.Response(text="<html>")
        if act == "empty":
            return web.json_response({"choices": []})
        word = "Maybe" if act == "maybe" else "Yes" if redness > 0.5 else "No"
        likely = {"Yes": redness * 0.75, " yes": redness * 0.25, "No": 1 - redness, "Maybe": 0}
        top = [
            {"token": token, "logprob": math.log(max(p, 1e-9)), "bytes": None}
            for token, p in likely.items()
        ]
        logprobs = {"content": [{"token": word, "logprob": 0, "top_logprobs": top}]}
        if act == "no logprobs":
            logprobs = None
        message = {"role": "assistant", "content": f"{word}."}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
        return web.json_response({"model": "red-vlm", "choices": [choice]})


def _redness(url: str) -> float:
    """The red of the picture's first pixel, from 0 to 1."""
    file = io.BytesIO(base64.b64decode(url.partition("base64,")[2]))
    return Image.open(file).getpixel((0, 0))[0] / 255
