"""A client of one running ComfyUI."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from ...errors import EllaError
from .jobs import JobFailedError
from .workflow import Graph

if TYPE_CHECKING:
    import aiohttp

_ANSWER = 30  # seconds within which a server answers a request
_GATEWAY = (502, 503, 504)  # a proxy's answer in place of a server that is down


class ServerLostError(Exception):
    """The server can't be reached."""


class Client:
    """One running ComfyUI.

    Args:
        address: http://HOST:PORT.
        session: shared by all servers.
        timeout: seconds that a picture may take, from the end of the client's one before it.
    """

    def __init__(self, address: str, session: "aiohttp.ClientSession", timeout: float) -> None:
        self.address = address if "://" in address else f"http://{address}"
        self._session = session
        self._timeout = timeout
        # Without one, ComfyUI leaves the outputs of cached nodes out of the history.
        self._client = uuid.uuid4().hex
        self._queue: list[str] = []  # prompts that are waited for, in the server's order
        self._left: list[str] = []  # those that were there when it was lost

    async def join(self) -> str:
        """Return ComfyUI's version. Prompts that were left there when it was lost are cancelled.

        Raises:
            ServerLostError: It isn't reached, or something else answers there.
        """
        try:
            stats = await self._json("GET", "/system_stats")
            version = str(stats["system"]["comfyui_version"])
        except (JobFailedError, KeyError, TypeError) as error:
            raise ServerLostError(f"{self.address} is no ComfyUI: {error}") from error
        while self._left:
            await self._cancel(self._left.pop())
        return version

    async def paint(self, graph: Graph, outputs: tuple[str, ...] = ()) -> bytes:
        """Queue a graph, wait for its end, and return its picture as a file's content.

        A prompt that isn't waited for any longer is taken from the server's queue.

        Args:
            graph: API format.
            outputs: ids of the nodes whose pictures count; empty: all that save some.

        Raises:
            ServerLostError: The connection broke.
            JobFailedError: An error, no picture in time, or not just one.
        """
        id_ = str(uuid.uuid4())  # ComfyUI 0.33 wants the form with hyphens
        body = {"prompt": graph, "prompt_id": id_, "client_id": self._client}
        self._queue.append(id_)
        try:
            await self._json("POST", "/prompt", json=body)
            entry = await self._finished(id_)
            params = _picture(entry, outputs)
        except ServerLostError:
            self._left.append(id_)
            raise
        except asyncio.CancelledError:
            await self._cancel(id_)
            raise
        except (LookupError, TypeError, AttributeError) as error:
            raise JobFailedError(f"/history answered something unknown: {error!r}") from error
        finally:
            self._queue.remove(id_)
        async with self._request("GET", "/view", params=params) as response:
            return await response.read()

    async def _finished(self, id_: str) -> dict[str, Any]:
        """Return what the history says of a prompt, once it says something."""
        pause, since = 0.05, time.monotonic()
        while not (history := await self._json("GET", f"/history/{id_}")):
            await asyncio.sleep(pause)
            pause = min(1.2 * pause, 2)  # about a tenth of what a picture takes
            if self._queue[0] != id_:
                since = time.monotonic()
            elif time.monotonic() - since > self._timeout:
                await self._cancel(id_)
                raise JobFailedError(f"no picture after {self._timeout:g} seconds")
        entry: dict[str, Any] = history[id_]
        if entry["status"]["status_str"] != "success":
            raise JobFailedError(_error(entry["status"]["messages"]))
        return entry

    async def _cancel(self, id_: str) -> None:
        """Take a prompt from the queue, and interrupt it if it runs."""
        with suppress(ServerLostError, JobFailedError):
            for path, body in (("/queue", {"delete": [id_]}), ("/interrupt", {"prompt_id": id_})):
                async with self._request("POST", path, json=body):
                    pass

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        async with self._request(method, path, **options) as response:
            text = await response.text(errors="replace")
        try:
            return json.loads(text)
        except ValueError as error:
            raise JobFailedError(f"{path} answered no JSON: {text[:200]!r}") from error

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, **options: Any
    ) -> "AsyncIterator[aiohttp.ClientResponse]":
        """Send a request, and tell a lost server from one that reports an error."""
        import aiohttp

        limit = aiohttp.ClientTimeout(total=_ANSWER)
        url = self.address.rstrip("/") + path
        try:
            async with self._session.request(method, url, timeout=limit, **options) as response:
                if response.status in _GATEWAY:
                    raise ServerLostError(f"{self.address}: {response.status} {response.reason}")
                if response.status >= 400:
                    text = await response.text(errors="replace")
                    refused = path == "/prompt" and response.status == 400
                    raise JobFailedError(_reason(path, response.status, text), refused)
                yield response
        except aiohttp.InvalidURL as error:
            raise EllaError(f"{self.address} is no address: expected http://HOST:PORT") from error
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            raise ServerLostError(f"{self.address}: {str(error) or 'no answer'}") from error


def _picture(entry: dict[str, Any], outputs: tuple[str, ...]) -> dict[str, str]:
    """The one picture that a graph saved, or else previewed, as /view asks for it."""
    found = [
        (node, picture)
        for node, output in entry["outputs"].items()
        if not outputs or node in outputs
        for picture in output.get("images", ())
    ]
    saved = [each for each in found if each[1]["type"] == "output"] or found
    if len(saved) != 1:
        nodes = ", ".join(sorted({node for node, _ in saved})) or "no node"
        raise JobFailedError(
            f"the workflow gave {len(saved)} pictures (from {nodes}), and one is needed. Set its "
            f"batch size to 1, and name the node to take with --output-node"
        )
    return {key: saved[0][1][key] for key in ("filename", "subfolder", "type")}


def _error(messages: list[tuple[str, dict[str, Any]]]) -> str:
    """Return the error that stopped a prompt, from the messages in its history."""
    for kind, data in messages:
        if kind == "execution_error":
            return f"{data['node_type']}: {data['exception_message'].strip()}"
        if kind == "execution_interrupted":
            return "interrupted by someone"
    return f"failed without a reason: {messages}"


def _reason(path: str, status: int, text: str) -> str:
    """Return ComfyUI's reason for refusing a request, in a line."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        reply = json.loads(text)
        details = [
            f"{node['class_type']}: {error['message']}: {error['details']}"
            for node in reply["node_errors"].values()
            for error in node["errors"]
        ]
        return "; ".join(details) or str(reply["error"]["message"])
    return f"{path} answered {status}: {text[:200]!r}"
