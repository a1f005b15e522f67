"""A real ComfyUI server in a process of its own, and a client that queues prompts on it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import requests

from bootstrap import ROOT, host_dir

PACK_NAME = "ELLA-Nodes"
OTHER_PACKS = "ELLA_OTHER_PACKS"  # names a folder of others' node packs, see CONTRIBUTING.md
Progress = Callable[[str, int, int], None]  # node id, done, of


@dataclass
class Result:
    """Outcome of a queued prompt.

    Attributes:
        outputs: node id -> what the node showed or saved.
        error: ComfyUI's own report (exception_message, node_type ...), None if all went well.
        reports: what this pack said about its nodes.
        texts: node id -> the last report in English.
        progress: node id, done, of: how the nodes' progress bars moved.
    """

    outputs: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    reports: list[dict[str, Any]] = field(default_factory=list)
    progress: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def texts(self) -> dict[str, str]:
        return {report["node"]: report["text"] for report in self.reports}


class Server:
    """ComfyUI on a base directory of ours, with packs linked into its custom_nodes.

    Args:
        base: holds models, input, output and custom_nodes; nothing outside it is written.
        arguments: more command line arguments for ComfyUI.
        packs: further node packs to link.
        with_pack: whether this pack is linked too.
        environment: further environment variables.
    """

    def __init__(
        self,
        base: Path,
        arguments: list[str] | None = None,
        packs: list[Path] | None = None,
        environment: dict[str, str] | None = None,
        with_pack: bool = True,
    ) -> None:
        self.base = base
        self.log = base / "comfyui.log"
        self._arguments = arguments or []
        self._environment = {**os.environ, **(environment or {})}
        self._packs = {pack.name: pack for pack in packs or []}
        if with_pack:
            self._packs[PACK_NAME] = ROOT
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Server":
        for folder in ("models", "input", "output", "custom_nodes"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        for name, pack in self._packs.items():
            link(pack, self.base / "custom_nodes" / name)
        command = [sys.executable, "main.py", "--port", str(self.port), "--disable-auto-launch"]
        database = f"sqlite:///{(self.base / 'comfyui.db').as_posix()}"
        command += ["--base-directory", str(self.base), "--database-url", database]
        command += ["--disable-api-nodes", *self._arguments]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=host_dir(), stdout=log, stderr=log, env=self._environment
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def wait(self) -> None:
        """Return when the server has ended."""
        assert self._process is not None
        self._process.wait()

    def _wait_until_up(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended while starting:\n{self.log_tail()}")
            try:
                requests.get(f"{self.address}/system_stats", timeout=5).raise_for_status()
                return
            except requests.RequestException:
                time.sleep(0.3)
        raise RuntimeError(f"ComfyUI was not up after 5 minutes:\n{self.log_tail()}")

    def log_text(self) -> str:
        """Return ComfyUI's output so far."""
        # In the system's own encoding a byte may be unknown, and reading would then fail.
        return self.log.read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines: int = 30) -> str:
        """The end of what ComfyUI printed."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def get(self, path: str) -> Any:
        """The JSON behind a path of ComfyUI's API."""
        return json.loads(self.text(path))

    def text(self, path: str) -> str:
        """The text behind a path."""
        response = requests.get(self.address + path, timeout=60)
        response.raise_for_status()
        return response.text

    def post(self, path: str, body: dict[str, Any]) -> None:
        """Send JSON to a path of ComfyUI's API."""
        requests.post(self.address + path, json=body, timeout=60).raise_for_status()

    def run(self, prompt: dict[str, Any], on_progress: Progress | None = None) -> Result:
        """Queue a prompt in API form and follow it to its end."""
        return asyncio.run(self._run(prompt, on_progress or (lambda *_: None)))

    async def _run(self, prompt: dict[str, Any], on_progress: Progress) -> Result:
        client = uuid.uuid4().hex
        async with (
            aiohttp.ClientSession(self.address) as session,
            session.ws_connect(f"/ws?clientId={client}", max_msg_size=0) as socket_,
        ):
            body = {"prompt": prompt, "client_id": client}
            async with session.post("/prompt", json=body) as response:
                reply = await response.json()
            if "prompt_id" not in reply:
                return Result(error=_refusal(reply))
            return await _follow(socket_, reply["prompt_id"], on_progress)


def _refusal(reply: dict[str, Any]) -> dict[str, Any]:
    """Describe why ComfyUI did not queue a prompt, as the report of a failed run."""
    nodes = [reply["node_errors"][key] for key in reply.get("node_errors") or ()]
    errors = [(node["class_type"], error) for node in nodes for error in node["errors"]]
    lines = [f"{kind}: {each['message']}: {each['details']}" for kind, each in errors]
    return {
        "exception_message": "\n".join([reply["error"]["message"], *lines]),
        "exception_type": reply["error"]["type"],
        "node_type": nodes[0]["class_type"] if nodes else None,
    }


async def _follow(
    socket_: aiohttp.ClientWebSocketResponse, prompt_id: str, on_progress: Progress
) -> Result:
    result = Result()
    async for message in socket_:
        if message.type is aiohttp.WSMsgType.BINARY:
            continue
        event = json.loads(message.data)
        kind, data = event["type"], event["data"]
        if data.get("prompt_id") != prompt_id:
            continue
        if kind == "progress":
            on_progress(data["node"], data["value"], data["max"])
        elif kind == "progress_state":
            running = [n for n in data["nodes"].values() if n["state"] == "running"]
            result.progress += [(n["node_id"], n["value"], n["max"]) for n in running]
        elif kind == "ella.report":
            result.reports.append(data)
        elif kind == "executed":
            result.outputs[data["node"]] = data["output"]
        elif kind in ("execution_error", "execution_interrupted"):
            result.error = data
            return result
        elif kind == "execution_success":
            return result
    raise RuntimeError("ComfyUI closed the connection: it has probably crashed")


def other_packs() -> list[Path]:
    """Return the node packs of others that the environment names, for workflows that need them."""
    folder = os.environ.get(OTHER_PACKS)
    return sorted(path for path in Path(folder).iterdir() if path.is_dir()) if folder else []


def link(source: Path, target: Path) -> None:
    """Make `target` the folder `source`, without needing special rights on Windows."""
    if os.path.lexists(target):
        if target.resolve() == source.resolve():
            return
        target.rmdir() if sys.platform == "win32" else target.unlink()  # the pack has moved
    if sys.platform == "win32":
        import _winapi

        _winapi.CreateJunction(str(source), str(target))
    else:
        target.symlink_to(source, target_is_directory=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
