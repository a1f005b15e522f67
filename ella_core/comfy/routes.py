"""What the editor can ask of the pack beside running its nodes."""

import asyncio

from aiohttp import web
from server import PromptServer


def register_routes() -> None:
    """Make ComfyUI's server answer them. It collects routes once all packs are there."""

    @PromptServer.instance.routes.post("/ella/cache/clear")  # type: ignore[untyped-decorator]
    async def clear_cache(_: web.Request) -> web.Response:
        from .cache import feature_cache  # not at ComfyUI's start

        entries, size = await asyncio.to_thread(feature_cache().clear)
        return web.json_response({"entries": entries, "bytes": size})
