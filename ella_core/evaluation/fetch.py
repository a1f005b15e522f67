"""Download the files of a benchmark, each compared with a checksum that was noted beforehand."""

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from ..errors import EllaError
from ..hub import endpoint
from .benchmarks import BenchmarkFile
from .files import locked

_TIMEOUT = 60  # seconds without a byte


def fetch(file: BenchmarkFile, folder: Path) -> str:
    """Have a file in a folder, and return what was done. A file that is there is left alone.

    Raises:
        EllaError: It can't be downloaded, or is not the file that was noted.
    """
    path = folder / file.name
    folder.mkdir(parents=True, exist_ok=True)
    with locked(path):
        if path.exists():
            _check(file, path.read_bytes(), f"{path}, which is there,")
            return f"{path}: was there, with the right checksum"
        content = _download(file)
        _check(file, content, file.url)
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(content)
        os.replace(part, path)
    return f"{path}: downloaded {len(content):,} bytes"


def _download(file: BenchmarkFile) -> bytes:
    url = file.url.format(hub=endpoint())
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            content: bytes = response.read()
    except (urllib.error.URLError, OSError) as error:
        raise EllaError(
            f"{url} can't be downloaded: {error}. Try again, or download it elsewhere and put it "
            f"there as {file.name}: it is compared with its checksum."
        ) from error
    return content


def _check(file: BenchmarkFile, content: bytes, what: str) -> None:
    kind, _, wanted = file.checksum.partition(":")
    if kind == "git":
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    else:
        found = hashlib.md5(content, usedforsecurity=False)
    if found.hexdigest() != wanted:
        raise EllaError(
            f"{what} has the {kind} checksum {found.hexdigest()}, and {wanted} is expected: it is "
            "not the file that this benchmark was published with, or only a part of it."
        )
