"""A small Hugging Face hub: its API as huggingface_hub speaks it, and its faults."""

import hashlib
import json
import random
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tiny_models import write_t5

from .host import LLM_DIM
from .models import write_tsc

REPO = "QQGYLab/ELLA"
MAIN = "0123456789abcdef0123456789abcdef01234567"  # the commit that the branch stands for
PINNED = "c07675dea7873abe24a4152e1140cf0131c217d2"  # of the released connector
CONNECTOR = "ella-sd1.5-tsc-t5xl.safetensors"
T5_FOLDER = "models--google--flan-t5-xl--text_encoder"
TOKEN = "hf_of_the_tests"
CHUNK = 10 * 2**20  # what huggingface_hub reads and writes at once

ADAPTER, GEMMA = "rouweiGemma_g31b27k.safetensors", "gemma-3-1b-it"  # SDXL's, on the disk
# Repository -> files: what there is for SDXL, and what must not come with it.
SDXL_REPOS = {
    "Minthy/RouWei-Gemma": {ADAPTER: b"adapter", "workflow.png": b""},
    f"unsloth/{GEMMA}": {
        "config.json": b"{}",
        "model.safetensors": b"weights",
        "README.md": b"",
        "more/config.json": b"{}",
    },
}

# A repository for downloads alone: what belongs to the models, and what must not come with them.
CONTENT = random.Random(0).randbytes(2 * CHUNK + 12345)
FILES = {
    CONNECTOR: CONTENT,
    f"{T5_FOLDER}/config.json": b'{"model_type": "t5"}',
    f"{T5_FOLDER}/model.safetensors": b"weights of the LLM",
    f"{T5_FOLDER}/spiece.model": b"",
    f"{T5_FOLDER}/pytorch_model.bin": b"pickled code",
    f"{T5_FOLDER}/../up.json": b"{}",
    f"{T5_FOLDER}/deeper/config.json": b"{}",
    "README.md": b"# ELLA",
}


@dataclass
class Hub:
    """Content and faults of the server.

    Attributes:
        files: path in the repository -> content.
        fault: called with the handler before it answers a file's bytes; True: it has answered.
        status: HTTP status of the API's answer.
        api: the API's answer, where it is not the right one.
        sizes: path -> a size other than the file's that the API gives.
        checksums: path -> a SHA-256 other than the file's that the API gives.
        others: further repositories with their files; their one commit is MAIN.
        requests: path and headers, in lower case, of what was asked.
    """

    files: dict[str, bytes]
    fault: object = None
    status: int = 200
    api: bytes | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    others: dict[str, dict[str, bytes]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __enter__(self):
        self._serve(port=0)
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, port):
        self._server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @contextmanager
    def away(self):
        """Nobody listens at the address."""
        port = self.port
        self.__exit__()
        with socket.socket() as kept:  # bound but not listening: no other program gets the port
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            kept.bind(("127.0.0.1", port))
            yield
        self._serve(port)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def heal(self, files: dict[str, bytes]) -> None:
        """Undo all changes."""
        self.__init__(dict(files))

    def environment(self, home: Path) -> dict[str, str]:
        """Return the environment of a ComfyUI that uses it, huggingface_hub's folder included."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home),
            "NO_PROXY": "*",
        }

    def ranges(self, path: str) -> list[str | None]:
        """The Range headers of the requests that were answered with a file's bytes."""
        return [headers.get("range") for asked, headers in self.requests if asked == f"/cdn/{path}"]

    def info(self, commit: str = MAIN, repo: str = REPO) -> bytes:
        siblings = []
        for path, content in self.others.get(repo, self.files).items():
            size = self.sizes.get(path, len(content))
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"rfilename": path, "size": size, "blobId": blob}
            if path.endswith(".safetensors"):
                sha256 = self.checksums.get(path, hashlib.sha256(content).hexdigest())
                entry["lfs"] = {"size": size, "sha256": sha256, "pointerSize": 130}
            siblings.append(entry)
        return json.dumps({"id": repo, "sha": commit, "siblings": siblings}).encode()


def small_repository(folder: Path) -> dict[str, bytes]:
    """The files of a repository like the released one, with small models. `folder` is a scratch."""
    write_tsc(folder / CONNECTOR, layers=2, llm_dim=LLM_DIM)
    write_t5(folder / T5_FOLDER, width=LLM_DIM)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def remove_models(models: Path) -> None:
    """Delete what of the repositories is in ComfyUI's folders."""
    llms = [models / "text_encoders" / name for name in (T5_FOLDER, GEMMA)]
    for folder in (models / "ella", models / "llm_adapters", *llms):
        for file in folder.glob("*"):
            file.unlink()
    for folder in llms:
        if folder.is_dir():
            folder.rmdir()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, hub, *args):
        self.hub = hub
        super().__init__(*args)

    def do_GET(self):
        path = urlsplit(self.path).path
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append((path, headers))
        repo = next((repo for repo in self.hub.others if f"/{repo}/" in path), REPO)
        commits = {
            f"/api/models/{repo}/revision/{revision}": commit
            for revision, commit in (("main", MAIN), (PINNED, PINNED))
        }
        _, _, of_commit = path.partition(f"/{repo}/resolve/")
        commit, _, file = of_commit.partition("/")
        if path in commits:
            self.answer(self.hub.status, self.hub.api or self.hub.info(commits[path], repo))
        elif commit in commits.values() and file in self.hub.others.get(repo, self.hub.files):
            # As on the hub, the bytes are another host's, which must not see the token.
            place = file if repo == REPO else f"{repo}/{file}"
            cdn = f"http://localhost:{self.hub.port}/cdn/{place}"
            self.answer(302, headers={"Location": cdn, "X-Repo-Commit": commit})
        elif path.startswith("/cdn/"):
            self.send_file(path.removeprefix("/cdn/"))
        else:
            self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def send_file(self, path):
        others = {
            f"{repo}/{f}": data for repo, fs in self.hub.others.items() for f, data in fs.items()
        }
        self.content = {**self.hub.files, **others}[path]
        self.start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if self.hub.fault and self.hub.fault(self):
            return
        if self.start >= len(self.content) > 0:
            self.answer(416)
            return
        total = len(self.content)
        range_ = {"Content-Range": f"bytes {self.start}-{total - 1}/{total}"}
        status, headers = (206, range_) if self.start else (200, {})
        self.answer(status, self.content[self.start :], headers)

    def answer(self, status, body=b"", headers=None, length=None):
        self.send_response(status)
        for name, value in {"Content-Length": length or len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def break_off_once(at):
    """The connection ends after `at` bytes of the first file that is asked for."""
    done = threading.Event()

    def fault(handler):
        if done.is_set():
            return False
        done.set()
        handler.answer(200, handler.content[:at], length=len(handler.content))
        handler.close_connection = True
        return True

    return fault


def stall_after(at, released):
    """The first `at` bytes come at once, the rest when the event `released` is set."""

    def fault(handler):
        if handler.start >= at or len(handler.content) <= at:
            return False
        handler.answer(200, handler.content[:at], length=len(handler.content))
        handler.wfile.flush()
        released.wait(60)
        handler.close_connection = True
        return True

    return fault


def ignore_ranges(handler):
    handler.answer(200, handler.content)
    return True


def status(code):
    def fault(handler):
        handler.answer(code)
        return True

    return fault


def part_of(folder: Path) -> Path:
    (part,) = folder.glob("*.part")
    return part
