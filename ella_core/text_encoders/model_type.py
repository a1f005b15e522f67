"""What kind of LLM lies somewhere, in no time and without transformers."""

import json
import struct
from pathlib import Path

from . import gguf, single_file

# Where GGUF and transformers call an architecture differently.
_IN_TRANSFORMERS = {"gemma3": "gemma3_text"}
_STRING = 8  # the type of a value in GGUF
_ARCHITECTURE = b"general.architecture"


def model_type_of(path: Path) -> str | None:
    """Return the LLM's `model_type` in transformers' terms, None if it can't be told.

    Args:
        path: see `load_text_encoder`. Its files have been checked.
    """
    if gguf.is_gguf(path):
        found = _gguf_architecture(path)
        return found and _IN_TRANSFORMERS.get(found, found)
    if path.is_file():
        return single_file.model_type(path)
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return str(config["model_type"]) if "model_type" in config else None


def _gguf_architecture(path: Path) -> str | None:
    """Read the file's first entry, which is the architecture in all files that llama.cpp makes."""
    with path.open("rb") as file:
        file.seek(24)  # magic, version, number of tensors, number of entries
        (size,) = struct.unpack("<Q", file.read(8))
        if size != len(_ARCHITECTURE) or file.read(size) != _ARCHITECTURE:
            return None
        kind, size = struct.unpack("<IQ", file.read(12))
        return file.read(size).decode() if kind == _STRING and size < 64 else None
