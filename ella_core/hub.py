"""ELLA's models on the Hugging Face hub, through `huggingface_hub` 0.36 and later.

Of its API only what all these versions share is used. `hf_hub_download` is not: since version 2 it
deletes what it has when a download breaks off.
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import EllaError

# Data and text only: no format that can run code when opened, no name that leads elsewhere.
_SAFE_NAME = re.compile(r"\w[\w.-]*\.(safetensors|json|txt|model)")


@dataclass(frozen=True)
class Source:
    """Address of a published model.

    Attributes:
        label: what messages call it.
        repo: its repository on the hub.
        revision: commit, branch or tag. A branch or tag is resolved to a commit before each
            download, and all files are of that commit.
        path: in the repository: a file, a folder with all its files, or "." for those at its root.
        folder: what a folder is called on the disk, if not as in the repository.
        licence: of the weights; None if none was found.
        optional: whether ELLA for Stable Diffusion 1.5 does without it.
    """

    label: str
    repo: str
    revision: str
    path: str
    folder: str = ""
    licence: str | None = None
    optional: bool = False

    @property
    def name(self) -> str:
        """What its file or folder is called on the disk."""
        return self.folder or self.path

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return not PurePosixPath(self.path).suffix

    def command(self, root: Path) -> str:
        """Return the command that downloads it into the folder `root`."""
        what = f'--include "{self.path}/*"' if self.is_folder else self.path
        what = '--exclude "*/*"' if self.path == "." else what
        return f'hf download {self.repo} {what} --revision {self.revision} --local-dir "{root}"'


_REPO = "QQGYLab/ELLA"
# The commit of the file that has the SHA-256 in workflows/*.json. Both are as Finegrain's refiners
# gives them (src/refiners/conversion/models/ella.py), which checks what it downloads from there.
_CONNECTOR_COMMIT = "c07675dea7873abe24a4152e1140cf0131c217d2"

SOURCES = {
    "connector": Source(
        "ELLA connector",
        _REPO,
        _CONNECTOR_COMMIT,
        "ella-sd1.5-tsc-t5xl.safetensors",
        licence="Apache-2.0",
    ),
    "LLM": Source(
        "FLAN-T5-XL encoder",
        _REPO,
        "main",
        "models--google--flan-t5-xl--text_encoder",
        licence="Apache-2.0",
    ),
    # The name is from the README of NeuroSenko/ComfyUI_LLM_SDXL_Adapter, as is Gemma's mirror.
    "SDXL adapter": Source(
        "RouWei-Gemma, an LLM adapter for SDXL",
        "Minthy/RouWei-Gemma",
        "main",
        "rouweiGemma_g31b27k.safetensors",
        optional=True,
    ),
    "SDXL LLM": Source(
        "Gemma 3 1B, for RouWei-Gemma",
        "unsloth/gemma-3-1b-it",
        "main",
        ".",
        folder="gemma-3-1b-it",
        licence="Gemma Terms of Use",
        optional=True,
    ),
}


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at one commit.

    Attributes:
        path: in the repository.
        size: bytes.
        checksum: SHA-256 (64 digits); of a small file that git itself keeps, its SHA-1 of the
            blob (40 digits).
        repo: the repository.
        commit: the commit.
    """

    path: str
    size: int
    checksum: str
    repo: str
    commit: str


class HubUnreachedError(EllaError):
    """No answer came from the hub: no connection, a time-out, or it is not to be asked.

    Attributes:
        reason: why, without what the user can do about it.
    """

    def __init__(self, source: Source, root: Path, reason: str, remedy: str) -> None:
        super().__init__(_message(source, root, f"{reason}. {remedy}"))
        self.reason = reason


def endpoint() -> str:
    """Return the hub's address: HF_ENDPOINT, or huggingface.co."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def look_up(source: Source) -> list[RemoteFile]:
    """Ask the hub for the files of a model and their checksums, without downloading them.

    Raises:
        EllaError: the files are not there, or no checksum is given for one.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT as SECONDS

    try:
        info = HfApi().model_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=SECONDS
        )
    except (ValueError, KeyError, TypeError) as error:  # a login page, or some other service
        raise EllaError(f"{endpoint()} does not answer like the Hugging Face hub") from error
    files = []
    for entry in info.siblings or []:
        path = PurePosixPath(entry.rfilename)
        if source.path not in (str(path), str(path.parent)) or not _SAFE_NAME.fullmatch(path.name):
            continue
        checksum = entry.lfs.sha256 if entry.lfs else entry.blob_id
        if not checksum or entry.size is None or not info.sha:
            raise EllaError(f"{endpoint()} gives no checksum for {source.repo}/{path}")
        files.append(RemoteFile(str(path), entry.size, checksum, source.repo, info.sha))
    if not files:
        raise EllaError(f"{source.repo} at {endpoint()} holds no {source.path}")
    return files


def transfer(file: RemoteFile, part: Path, on_write: Callable[[int], None]) -> None:
    """Download a file, or what is missing of it, into `part`.

    Args:
        file: what to download.
        part: holds the first bytes of it, or is not there yet.
        on_write: told the size of `part` whenever it has grown. What it raises ends the download.

    Raises:
        EllaError: more bytes come than the hub announced, or the disk can't be written.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    headers = build_hf_headers()  # with the token of HF_TOKEN or of `hf auth login`
    headers["Accept-Encoding"] = "identity"  # ranges of what is compressed would be other bytes
    headers["Range"] = "bytes=0-"  # keeps hf_transfer away, which would write past `_Part`
    url = hf_hub_url(file.repo, file.path, revision=file.commit)
    with _Part(part, file.size, on_write) as out:
        while True:
            begun = out.tell()
            try:
                http_get(url, out, resume_size=begun, headers=headers, expected_size=file.size)
                return
            except _client_errors():  # a line that breaks often does, as long as something comes
                if out.tell() <= begun:
                    raise


def _client_errors() -> tuple[type[BaseException], ...]:
    """Return the errors of the hub's HTTP client: requests' in version 0, httpx's since."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


class _Part(io.FileIO):
    """A file that grows up to a size and tells of it."""

    def __init__(self, path: Path, limit: int, on_write: Callable[[int], None]) -> None:
        super().__init__(path, "ab")
        self._limit = limit
        self._on_write = on_write

    def write(self, data: Any) -> int:
        """Write all of `data`, unless it is more than was announced."""
        size = self.tell() + len(data)
        if size > self._limit:
            self.truncate(0)  # a server that ignores ranges has sent it all over again
            raise EllaError(
                f"{self.name}: more than the {self._limit:,} bytes that were announced came"
            )
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            raise EllaError(f"{self.name} can't be written: {error.strerror}") from error
        self._on_write(size)
        return len(data)


@contextmanager
def explaining(source: Source, root: Path) -> Iterator[None]:
    """Say what went wrong with the hub or the disk, and what the user can do.

    Args:
        source: what was to be downloaded.
        root: where to.

    Raises:
        HubUnreachedError: no answer came.
        EllaError: in place of what else the hub's client and the system raise.
    """
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        yield
    except EllaError as error:
        raise EllaError(_message(source, root, str(error))) from error
    except OfflineModeIsEnabled as error:
        reason = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
        raise HubUnreachedError(source, root, reason, "Unset it and restart ComfyUI") from error
    except _client_errors() as error:
        raise _explained(error, source, root) from error


def _explained(error: BaseException, source: Source, root: Path) -> EllaError:
    response = getattr(error, "response", None)
    if response is not None:
        return EllaError(_message(source, root, _refusal(source, response.status_code)))
    if isinstance(error, OSError) and error.filename is not None:
        denied = f"{error.filename} can't be read or written ({error.strerror})"
        return EllaError(_message(source, root, f"{denied}. Correct the folder's rights"))
    words = str(error).partition("\n")[0] or type(error).__name__
    return HubUnreachedError(
        source,
        root,
        f"the connection to {endpoint()} failed ({words})",
        "Check it and try again; where the hub can't be reached, set HF_ENDPOINT to a mirror and "
        "restart ComfyUI",
    )


def _message(source: Source, root: Path, reason: str) -> str:
    return (
        f"Can't download the {source.label}: {reason.rstrip('.')}. What has come so far is kept. "
        f"To do it by hand, run: {source.command(root)}"
    )


def _refusal(source: Source, status: int) -> str:
    where = f"{source.repo} at {endpoint()}"
    if status in (401, 403):
        return (
            f"{where} asks for a login that may read it (HTTP {status}). Run `hf auth login` in "
            f"ComfyUI's Python or set HF_TOKEN to a token of yours, accept the repository's terms "
            f"on its page if it has any, and restart ComfyUI"
        )
    if status == 404:
        return (
            f"there is no {source.path} in {where}, revision {source.revision} (HTTP 404). Check "
            f"HF_ENDPOINT if you set it"
        )
    return f"{where} answered with HTTP {status}. Try again later, or set HF_ENDPOINT to a mirror"
