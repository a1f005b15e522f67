"""The order of the pack's workflows in ComfyUI's template browser."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from server import PromptServer

_PACK = Path(__file__).parents[3].name
_FIRST = ("ella-prompt", "ella-text-to-image")
# These need other node packs or a newer ComfyUI.
_LAST = ("ella-animatediff", "ella-generate-text", "ella-ipadapter", "ella-tiled-upscale")
_LISTS = ("/workflow_templates", "/api/workflow_templates")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def order_templates() -> None:
    """Have ComfyUI's server list text to image first, what needs more last, the others by name.

    By itself it lists a pack's workflows as the disk does, and the editor shows them so.
    """
    PromptServer.instance.app.middlewares.append(_ordered)


@web.middleware
async def _ordered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Sort our part of ComfyUI's list; leave every other response as it is."""
    response = await handler(request)
    is_list = request.path in _LISTS and response.content_type == "application/json"
    if is_list and isinstance(response, web.Response) and response.text:
        names = json.loads(response.text)
        names.get(_PACK, []).sort(key=lambda name: (_rank(name), name))
        response.text = json.dumps(names)
    return response


def _rank(name: str) -> int:
    if name in _LAST:
        return len(_FIRST) + 1
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)
