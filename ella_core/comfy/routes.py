"""What the editor can ask of the pack beside running its nodes."""

import asyncio
from dataclasses import asdict
from json import JSONDecodeError
from typing import Any

from aiohttp import web
from server import PromptServer

from ..config import LONG_PROMPT
from ..errors import EllaError


def register_routes() -> None:
    """Make ComfyUI's server answer them. It collects routes once all packs are there."""
    from .token_count import TokenCounter

    routes: Any = PromptServer.instance.routes
    counter = TokenCounter()

    @routes.post("/ella/cache/clear")  # type: ignore[untyped-decorator]
    async def clear_cache(_: web.Request) -> web.Response:
        from .cache import feature_cache  # not at ComfyUI's start

        entries, size = await asyncio.to_thread(feature_cache().clear)
        return web.json_response({"entries": entries, "bytes": size})

    @routes.post("/ella/tokens")  # type: ignore[untyped-decorator]
    async def count_tokens(request: web.Request) -> web.Response:
        """Of a prompt as LLM Text Encode would read it; `pending` while a tokenizer is opened."""
        try:
            count = await counter.count(*_prompt(await request.json()))
        except (EllaError, JSONDecodeError, UnicodeDecodeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        if count is None:
            return web.json_response({"pending": True}, status=202)
        return web.json_response(asdict(count))


def _prompt(body: Any) -> tuple[str, str, int, bool]:
    """The arguments of `TokenCounter.count` in a request.

    Raises:
        EllaError: they are missing or of another kind.
    """
    match body:
        case {
            "llm_name": str(llm_name),
            "text": str(text),
            "max_length": int(max_length),
            "long_prompt": str(long_prompt),
        } if max_length >= 0 and long_prompt in LONG_PROMPT:
            return llm_name, text, int(max_length), long_prompt == "chunk"
    raise EllaError(
        "Expected llm_name and text (strings), max_length (a whole number from 0 on) and "
        f"long_prompt ({' or '.join(LONG_PROMPT)})."
    )
