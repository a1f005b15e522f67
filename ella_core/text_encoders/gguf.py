"""An LLM as a GGUF file, and a cache of the tokenizers that are made of such files."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import uuid
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import EllaError
from .tokenizer import PromptTokenizer
from .tokens import SpecialTokens

_VERSION = 2  # of the cached tokenizers' format
_MAX_CACHED = 8


def is_gguf(path: Path) -> bool:
    """Return whether the LLM at `path` is a GGUF file, by its name."""
    return path.suffix.lower() == ".gguf"


def require_packages(path: Path) -> None:
    """Check that the packages that read GGUF files are installed, without importing them.

    Raises:
        EllaError: they are not.
    """
    if not all(map(importlib.util.find_spec, ("gguf", "accelerate"))):
        raise EllaError(
            f"{path.name} is a GGUF file, and the Python packages that read them are missing. "
            f"Install it into ComfyUI's Python with: pip install gguf accelerate"
        )


def check_gguf(path: Path) -> None:
    """Check that a file is a GGUF file.

    Raises:
        EllaError: it is none.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        if magic != b"GGUF":
            raise EllaError(f"it begins with {magic!r}, a GGUF file with b'GGUF'")


def source(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the arguments that name a GGUF file to transformers."""
    return path.parent, {
        "gguf_file": path.name,
        "local_files_only": True,
        "trust_remote_code": False,  # the default asks in the terminal
    }


def read_config(path: Path) -> Any:
    """Read the configuration from the file's header."""
    from transformers import AutoConfig

    folder, options = source(path)
    config = AutoConfig.from_pretrained(folder, **options)
    if config.model_type in ("t5", "umt5"):
        # Of T5, GGUF holds the gated kind, whose activation the file does not name. transformers
        # takes it for ReLU, without a word.
        config.dense_act_fn = "gelu_new"
    return config


def open_tokenizer(path: Path, config: Any, cache: Path | None) -> PromptTokenizer:
    """Open the tokenizer, from the cache if it is there.

    Making it takes about a minute of Python's own work.

    Args:
        path: the GGUF file.
        config: its configuration.
        cache: folder in which tokenizers are kept, None to keep none.
    """
    from transformers import AutoTokenizer

    tokenizer = cached_tokenizer(path, cache)
    if tokenizer is None:
        folder, options = source(path)
        made = AutoTokenizer.from_pretrained(folder, config=config, **options)
        positions = getattr(config, "max_position_embeddings", None)
        tokenizer = PromptTokenizer(made, _special_tokens(path), positions, config.model_type)
        if cache is not None:
            with suppress(OSError):  # it will be made again
                _keep(tokenizer, _place(path, cache))
    return tokenizer


def cached_tokenizer(path: Path, cache: Path | None) -> PromptTokenizer | None:
    """Return the tokenizer of a GGUF file if it has been kept and the file has not changed."""
    if cache is None:
        return None
    place = _place(path, cache)
    try:
        tokenizer = from_json(place.read_bytes())
        os.utime(place)
    except (OSError, ValueError, KeyError, TypeError):  # not there or damaged
        return None
    return tokenizer


def to_json(tokenizer: PromptTokenizer) -> str:
    """Describe a "fast" tokenizer, as every GGUF file has, in full."""
    made = tokenizer.tokenizer
    return json.dumps(
        {
            "backend": made.backend_tokenizer.to_str(),
            "bos": made.bos_token,
            "template": made.chat_template,
            "special": asdict(tokenizer.special),
            "window": tokenizer.window,
            "model_type": tokenizer.model_type,
        }
    )


def from_json(text: bytes) -> PromptTokenizer:
    """Make the tokenizer that `to_json` has described."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    found = json.loads(text)
    special = found["special"]
    return PromptTokenizer(
        PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(found["backend"]),
            bos_token=found["bos"],
            chat_template=found["template"],
        ),
        SpecialTokens(
            tuple(special["prefix"]), tuple(special["suffix"]), special["empty"], special["pad"]
        ),
        found["window"],
        found["model_type"],
    )


def _place(path: Path, cache: Path) -> Path:
    stat = path.stat()
    versions = [_VERSION, importlib.metadata.version("transformers")]
    identity = [*versions, str(path.resolve()), stat.st_size, stat.st_mtime_ns]
    return cache / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()}.json"


def _keep(tokenizer: PromptTokenizer, place: Path) -> None:
    """Write a file that others see whole or not at all, and delete the least recently used."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(to_json(tokenizer), encoding="utf-8")
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)
    kept = sorted(place.parent.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    for file in kept[:-_MAX_CACHED]:
        file.unlink(missing_ok=True)


def _special_tokens(path: Path) -> SpecialTokens:
    """Read what the file itself says about special tokens.

    The tokenizer that transformers makes of a GGUF file can't be asked: version 4 puts a BOS
    before every prompt of a Llama, also where the file says that there is none.
    """
    from gguf import GGUFReader

    fields = GGUFReader(path).fields

    def read(name: str, default: Any = None) -> Any:
        field = fields.get(f"tokenizer.ggml.{name}")
        return default if field is None else field.contents()

    kind = read("model")
    bos, eos, pad = (read(f"{name}_token_id") for name in ("bos", "eos", "padding"))
    prefix = (bos,) if bos is not None and read("add_bos_token", kind == "llama") else ()
    suffix = (eos,) if eos is not None and read("add_eos_token", kind == "t5") else ()
    return SpecialTokens.first_known(prefix, suffix, bos, eos, pad)
