"""What the editor can ask of the pack beside running its nodes."""

import asyncio
from dataclasses import asdict

from aiohttp import web
from server import PromptServer

from ..errors import EllaError


def register_routes() -> None:
    """Make ComfyUI's server answer them. It collects routes once all packs are there."""

    @PromptServer.instance.routes.post("/ella/cache/clear")  # type: ignore[untyped-decorator]
    async def clear_cache(_: web.Request) -> web.Response:
        from .cache import feature_cache  # not at ComfyUI's start

        entries, size = await asyncio.to_thread(feature_cache().clear)
        return web.json_response({"entries": entries, "bytes": size})

    _register_downloads(PromptServer.instance.routes)


def _register_downloads(routes: web.RouteTableDef) -> None:
    """What the dialog "Download ELLA models" asks for. Only its POST downloads anything."""

    @routes.get("/ella/downloads")
    async def list_models(_: web.Request) -> web.Response:
        from .downloads import describe

        try:
            return web.json_response(await asyncio.to_thread(describe))
        except EllaError as error:
            return web.json_response({"error": str(error)}, status=502)

    @routes.get("/ella/downloads/status")
    async def status(_: web.Request) -> web.Response:
        from .downloads import downloads

        return web.json_response(asdict(downloads().status))

    @routes.post("/ella/downloads")
    async def start(request: web.Request) -> web.Response:
        from ..hub import SOURCES
        from .downloads import downloads

        names = (await request.json())["models"]
        if not names or not set(names) <= SOURCES.keys():
            return web.json_response(
                {"error": f"models is {names}, not of {list(SOURCES)}"}, status=400
            )
        try:
            downloads().start(names)
        except EllaError as error:
            return web.json_response({"error": str(error)}, status=409)
        return web.json_response(asdict(downloads().status))

    @routes.post("/ella/downloads/stop")
    async def stop(_: web.Request) -> web.Response:
        from .downloads import downloads

        downloads().stop()
        return web.json_response(asdict(downloads().status))
