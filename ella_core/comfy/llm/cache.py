"""Prompts that an LLM has read, kept on the disk for the next start of ComfyUI."""

import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import time
import uuid
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import folder_paths
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...text_encoders import EncodedPrompt, PromptCounts

logger = logging.getLogger("ella")

# Of the entries, and of how a text is read: weights, chunks, special tokens. Entries of another
# version are no longer found, and go as the oldest.
_VERSION = 1
_LIMIT = 512 * 2**20  # bytes: 128 tokens of FLAN-T5-XL are 0.5 MB in fp16
_ABANDONED = 3600  # seconds after which a temporary file is nobody's

_COUNTS = [field.name for field in fields(PromptCounts)]


def cache_key(*parts: object) -> str:
    """What an encoded prompt is found by. Nothing can be read back from it.

    Args:
        parts: all that the features depend on (strings, numbers, None), beside the version of
            transformers.
    """
    versions = [_VERSION, importlib.metadata.version("transformers")]
    return hashlib.sha256(json.dumps([*versions, *parts]).encode()).hexdigest()


@functools.cache
def feature_cache() -> "FeatureCache":
    """The one of this ComfyUI. Other users' requests don't reach folders that begin with `__`."""
    return FeatureCache(Path(folder_paths.get_user_directory()) / "__ella" / "features")


class FeatureCache:
    """Encoded prompts, one file each, of which the least recently used give way.

    Whatever happens to the folder or its files, by other processes or by damage, an entry is
    right or it is not found; and what can't be written is not kept.

    Attributes:
        folder: where the entries are.
    """

    def __init__(self, folder: Path, limit: int = _LIMIT) -> None:
        self.folder = folder
        self._limit = limit  # bytes
        self._warned = False

    def get(self, key: str) -> EncodedPrompt | None:
        """The prompt that was put under `key`, on the CPU."""
        path = self._path(key)
        try:
            prompt = _read(path, key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, SafetensorError, ValueError) as error:
            logger.warning("the prompt is read anew, %s is unusable: %s", path, error)
            return None
        with suppress(OSError):  # in a read-only folder it stays as old as it was
            os.utime(path)
        return prompt

    def put(self, key: str, prompt: EncodedPrompt) -> None:
        """Keep `prompt`, if that is possible."""
        if prompt.features.nbytes > self._limit:
            return
        features = prompt.features.cpu().contiguous()
        counts = {name: int(getattr(prompt, name)) for name in _COUNTS}
        metadata = {name: str(count) for name, count in counts.items()}
        metadata["sha256"] = _checksum(key, features, counts)
        data = save({"features": features}, metadata)
        try:
            self._write(self._path(key), data)
            self._prune()
        except OSError as error:
            if not self._warned:
                self._warned = True
                logger.warning(
                    "Prompts that the LLM has read can't be kept in %s: %s. They will be read "
                    "anew after a restart.",
                    self.folder,
                    error,
                )

    def clear(self) -> tuple[int, int]:
        """Delete all entries.

        Returns:
            How many there were, and their bytes.
        """
        deleted = [entry.size for entry in self._files(".safetensors") if _delete(entry.path)]
        self._sweep()
        return len(deleted), sum(deleted)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file that others see whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{uuid.uuid4().hex}.tmp"
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _prune(self) -> None:
        """Delete the least recently used entries beyond the limit."""
        entries = self._files(".safetensors")
        excess = sum(entry.size for entry in entries) - self._limit
        for entry in entries:
            if excess <= 0:
                break
            if _delete(entry.path):
                excess -= entry.size
        self._sweep()

    def _sweep(self) -> None:
        """Delete what interrupted writes have left."""
        for file in self._files(".tmp"):
            if time.time_ns() - file.used > _ABANDONED * 1e9:
                _delete(file.path)

    def _files(self, suffix: str) -> list["_File"]:
        """The least recently used first."""
        found = []
        for path in self.folder.glob(f"*{suffix}"):
            with suppress(OSError):  # another process has deleted it
                stat = path.stat()
                found.append(_File(stat.st_mtime_ns, stat.st_size, path))
        return sorted(found)


class _File(NamedTuple):
    used: int  # nanoseconds since the epoch
    size: int  # bytes
    path: Path


def _read(path: Path, key: str) -> EncodedPrompt:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        features = file.get_tensor("features").clone()  # no view of a file that may change
    expected = metadata.pop("sha256", None)
    if metadata.keys() != set(_COUNTS):
        raise ValueError(f"it counts {sorted(metadata)}, not {_COUNTS}")
    counts = {name: int(metadata[name]) for name in _COUNTS}
    if _checksum(key, features, counts) != expected:
        raise ValueError("its checksum is wrong")
    return EncodedPrompt(features, **counts)


def _checksum(key: str, features: torch.Tensor, counts: dict[str, int]) -> str:
    """Over all that makes an entry, the header's share included."""
    about = [key, str(features.dtype), list(features.shape), counts]
    digest = hashlib.sha256(json.dumps(about).encode())
    digest.update(features.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _delete(path: Path) -> bool:
    """Whether it is gone through us; on Windows a file that is being read can't be deleted."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
