"""What kind of LLM lies somewhere, in no time and without transformers."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from . import gguf, single_file

# Where GGUF and transformers call an architecture differently.
_IN_TRANSFORMERS = {"gemma3": "gemma3_text", "t5encoder": "t5"}
# Types of values in GGUF: those of one number as `struct` writes them, and text.
_NUMBERS = dict(enumerate("BbHhIif?", start=0)) | {10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9
_MAX_TEXT = 2**16  # bytes; longer ones are no names
_MAX_LIST = 1000  # entries; longer ones are vocabularies, which come last


@dataclass(frozen=True)
class LLMKind:
    """What an LLM's files say about it; None where they don't.

    Attributes:
        model_type: the architecture, in transformers' terms.
        width: width D of the last hidden state.
        layers: number of hidden layers.
    """

    model_type: str | None = None
    width: int | None = None
    layers: int | None = None


def kind_of(path: Path) -> LLMKind:
    """Return what kind of LLM lies at `path`.

    Args:
        path: see `load_text_encoder`. Its files have been checked.

    Raises:
        ValueError: a folder's config.json is no configuration.
    """
    if gguf.is_gguf(path):
        with path.open("rb") as file:
            about = _gguf_entries(file)
        name = about.get("general.architecture")
        if not isinstance(name, str):
            return LLMKind()
        width, layers = about.get(f"{name}.embedding_length"), about.get(f"{name}.block_count")
        return LLMKind(_IN_TRANSFORMERS.get(name, name), width, layers)
    if path.is_file():
        config = single_file.read_config(path)
        return LLMKind(config.model_type, config.hidden_size, config.num_hidden_layers)
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    reader = config.get("encoder", config) if isinstance(config, dict) else None  # T5Gemma's
    if not isinstance(reader, dict):
        raise ValueError(f"the config.json of the LLM {path.name} is no configuration")
    return LLMKind(
        config.get("model_type"),
        reader.get("d_model", reader.get("hidden_size")),
        reader.get("num_layers", reader.get("num_hidden_layers")),
    )


def model_type_of(path: Path) -> str | None:
    """Return the LLM's `model_type` in transformers' terms, None if it can't be told.

    Args:
        path: see `load_text_encoder`. Its files have been checked.
    """
    if path.is_file() and not gguf.is_gguf(path):
        return single_file.model_type(path)
    return kind_of(path).model_type


def _gguf_entries(file: IO[bytes]) -> dict[str, Any]:
    """Read a file's entries up to its vocabulary, and nothing behind it."""

    def number(kind: str) -> Any:
        (value,) = struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))
        return value

    def value(kind: int) -> Any:
        if kind in _NUMBERS:
            return number(_NUMBERS[kind])
        if kind == _LIST:
            kind, size = number("I"), number("Q")
            if size > _MAX_LIST:
                raise ValueError(f"a list of {size} entries")
            return [value(kind) for _ in range(size)]
        size = number("Q")
        if kind != _STRING or size > _MAX_TEXT:
            raise ValueError(f"{size} bytes of kind {kind}")
        return file.read(size).decode()

    file.seek(16)  # magic, version, number of tensors
    entries: dict[str, Any] = {}
    try:
        for _ in range(number("Q")):
            key = value(_STRING)
            entries[key] = value(number("I"))
    except (struct.error, ValueError):  # cut short or damaged: whoever loads it says so
        pass
    return entries
