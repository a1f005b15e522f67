"""Writing files so that a full disk costs nothing that was there before."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ..errors import EllaError

#: The remedy of whatever goes on by itself.
GO_ON = "Make room and start the same command again: it goes on from what is whole."

# torch.save raises a RuntimeError that does not say what the system said.
_FAILURES = (OSError, SafetensorError, RuntimeError)


@contextmanager
def naming_failure(path: Path, remedy: str) -> Iterator[None]:
    """Turn whatever fails while `path` is being written into an `EllaError`.

    The block has to write and to do nothing else.
    """
    try:
        yield
    except _FAILURES as error:
        raise EllaError(
            f"{path} can't be written: {error}. {free_gigabytes(path):.2f} GB are free on its "
            f"disk. {remedy}"
        ) from error


def free_gigabytes(path: Path) -> float:
    """Free space where a path is, or will be."""
    there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    return shutil.disk_usage(there).free / 1e9


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    flush(part)
    part.replace(path)


def flush(path: Path) -> None:
    """Make a file, or the names in a folder, outlive a power cut."""
    if path.is_dir() and sys.platform == "win32":
        return  # Windows opens no folders
    # Windows flushes only what may be written to.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
