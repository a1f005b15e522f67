"""A relay in front of a server, which can be cut off, or made to answer nonsense."""

import aiohttp
from aiohttp import web

from .serving import Serving


class Relay(Serving):
    """Passes HTTP on to a server.

    Args:
        target: the server's address.

    Attributes:
        down: answer as a proxy does whose server is away.
        nonsense: paths that are answered with something that is no JSON.
        requests: method and path of all that were passed on.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        self.down = False
        self.nonsense: set[str] = set()
        self.requests: list[str] = []
        self._target = target
        self.app.router.add_route("*", "/{path:.*}", self._pass_on)

    async def _pass_on(self, request: web.Request) -> web.Response:
        if self.down:
            return web.Response(status=503)
        if request.path in self.nonsense:
            return web.Response(text="<html>nonsense</html>")
        self.requests.append(f"{request.method} {request.path}")
        url = self._target + request.path_qs
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, url, data=await request.read()) as answer,
        ):
            return web.Response(body=await answer.read(), status=answer.status)
