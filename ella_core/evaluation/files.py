"""Files that several programs may read and write at once."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import EllaError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other programs from writing `path`. The lock ends with this process, however it ends.

    Raises:
        EllaError: Another program has it.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(f"{path}.lock", timeout=0):
            yield
    except Timeout as error:
        raise EllaError(
            f"{path} is being written by another program. Wait until it is done, or choose another "
            "file."
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Write a file so that readers see the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
