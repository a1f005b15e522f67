"""The order of the pack's workflows in ComfyUI's template browser."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from server import PromptServer

_PACK = Path(__file__).parents[3].name
_FIRST = ("ella-prompt", "ella-text-to-image")
_LISTS = ("/workflow_templates", "/api/workflow_templates")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def order_templates() -> None:
    """Have ComfyUI's server list text to image first, the others by name.

    By itself it lists a pack's workflows as the disk does, and the editor shows them so.
    """
    PromptServer.instance.app.middlewares.append(_ordered)


@web.middleware
async def _ordered(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if request.path not in _LISTS or response.content_type != "application/json":
        return response
    assert isinstance(response, web.Response)
    assert response.text is not None
    names = json.loads(response.text)
    if _PACK in names:
        names[_PACK].sort(key=lambda name: (_rank(name), name))
    return web.json_response(names)


def _rank(name: str) -> int:
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)
