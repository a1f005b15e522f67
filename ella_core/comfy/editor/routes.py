"""HTTP routes for the editor."""

import asyncio
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from server import PromptServer

from ...config import LONG_PROMPT, PromptTemplate
from ...errors import EllaError, MissingLLMError

_PACK = Path(__file__).parents[3]


def register_routes() -> None:
    """Add our routes to ComfyUI's server, which collects them after loading all packs."""
    from .token_count import TokenCounter

    routes: web.RouteTableDef = PromptServer.instance.routes
    counter = TokenCounter()

    @routes.post("/ella/cache/clear")
    async def clear_cache(_: web.Request) -> web.Response:
        from ..llm.cache import feature_cache  # not at ComfyUI's start

        entries, size = await asyncio.to_thread(feature_cache().clear)
        return web.json_response({"entries": entries, "bytes": size})

    @routes.post("/ella/tokens")
    async def count_tokens(request: web.Request) -> web.Response:
        """Count a prompt's tokens; answer `pending` while the tokenizer is being opened."""
        try:
            count = await counter.count(*_prompt(await _body(request)))
        except EllaError as error:
            missing = isinstance(error, MissingLLMError)
            return web.json_response({"error": str(error), "missing": missing}, status=400)
        if count is None:
            return web.json_response({"pending": True}, status=202)
        return web.json_response(asdict(count))

    @routes.post("/ella/widths")
    async def widths(request: web.Request) -> web.Response:
        """Answer how wide a context these models read, and the installed connectors write."""
        from ..files.widths import connector_widths, model_width

        try:
            names = _model_files(await _body(request))
        except EllaError as error:
            return web.json_response({"error": str(error)}, status=400)
        models = {name: await asyncio.to_thread(model_width, name) for name in names}
        connectors = await asyncio.to_thread(connector_widths)
        return web.json_response({"models": models, "connectors": connectors})

    _register_downloads(routes)
    _register_help(routes)


def _register_downloads(routes: web.RouteTableDef) -> None:
    """Add the routes of the dialog "Download ELLA models". Only its POST downloads anything."""

    @routes.get("/ella/downloads")
    async def list_models(_: web.Request) -> web.Response:
        from ..files.downloads import describe

        try:
            return web.json_response(await asyncio.to_thread(describe))
        except EllaError as error:
            return web.json_response({"error": str(error)}, status=502)

    @routes.get("/ella/downloads/status")
    async def status(_: web.Request) -> web.Response:
        from ..files.downloads import downloads

        return web.json_response(asdict(downloads().status))

    @routes.post("/ella/downloads")
    async def start(request: web.Request) -> web.Response:
        from ..files.downloads import downloads

        try:
            names = _models(await _body(request))
        except EllaError as error:
            return web.json_response({"error": str(error)}, status=400)
        try:
            downloads().start(names)
        except EllaError as error:
            return web.json_response({"error": str(error)}, status=409)
        return web.json_response(asdict(downloads().status))

    @routes.post("/ella/downloads/stop")
    async def stop(_: web.Request) -> web.Response:
        from ..files.downloads import downloads

        downloads().stop()
        return web.json_response(asdict(downloads().status))


def _register_help(routes: web.RouteTableDef) -> None:
    """Serve the help of nodes whose id has a '#'. The editor truncates the URL at '#'."""
    for page in _PACK.glob("web/docs/*#*.md"):
        asked = page.name.partition("#")[0]
        routes.get(f"/extensions/{_PACK.name}/docs/{asked}")(partial(_help, page))


async def _help(page: Path, _: web.Request) -> web.FileResponse:
    return web.FileResponse(page)


async def _body(request: web.Request) -> Any:
    """Return the JSON that was sent.

    Raises:
        EllaError: it is none.
    """
    try:
        return json.loads(await request.read())
    except ValueError as error:  # also of bytes that are no text
        raise EllaError(f"Expected JSON: {error}") from error


def _models(body: Any) -> list[str]:
    """Return the names of the models that a request wants to download.

    Raises:
        EllaError: there are none, or they are not in `SOURCES`.
    """
    from ...hub import SOURCES

    match body:
        case {"models": [_, *_] as names} if all(name in [*SOURCES] for name in names):
            return [*names]
    expected = f'{{"models": [...]}} with one or more of {", ".join(SOURCES)}'
    raise EllaError(f"Expected {expected}, and got {json.dumps(body)[:200]}")


def _model_files(body: Any) -> list[str]:
    """Return the names of the model files that a request asks about.

    Raises:
        EllaError: it does not name any.
    """
    match body:
        case {"models": [*names]} if all(isinstance(name, str) for name in names):
            return [*names]
    raise EllaError(
        f'Expected {{"models": [...]}} with file names, and got {json.dumps(body)[:200]}'
    )


def _prompt(body: Any) -> tuple[str, str, int, bool, str | None, PromptTemplate | None]:
    """Read the arguments of `TokenCounter.count` from a request.

    Raises:
        EllaError: they are missing or of another kind, or see `PromptTemplate`.
    """
    match body:
        case {
            "llm_name": str(llm_name),
            "text": str(text),
            "max_length": int(max_length),
            "long_prompt": str(long_prompt),
        } if max_length >= 0 and long_prompt in LONG_PROMPT:
            ella_name = body.get("ella_name")
            known = ella_name if isinstance(ella_name, str) else None
            template = _template(body.get("template"))
            return llm_name, text, int(max_length), long_prompt == "chunk", known, template
    raise EllaError(
        "Expected llm_name and text (strings), max_length (a whole number from 0 on) and "
        f"long_prompt ({' or '.join(LONG_PROMPT)}); ella_name (a string) and template may be given."
    )


def _template(body: Any) -> PromptTemplate | None:
    """Read the inputs of ELLA Prompt Template from a request.

    Raises:
        EllaError: they are missing or of another kind, or see `PromptTemplate`.
    """
    match body:
        case None:
            return None
        case {
            "system_prompt": str(system_prompt),
            "template": str(template),
            "skip_tokens": int(skip_tokens),
        }:
            return PromptTemplate.of(system_prompt, template, int(skip_tokens))
    raise EllaError(
        "Expected system_prompt and template (strings) and skip_tokens (a whole number) in "
        "template."
    )
