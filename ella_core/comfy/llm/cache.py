"""Encoded prompts, kept on the disk for the next start of ComfyUI."""

import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import NamedTuple

import folder_paths
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...config import LLMIdentity
from ...text_encoders import EncodedPrompt, PromptCounts

logger = logging.getLogger("ella")

# Version of the entries' format and of how a text is read: weights, chunks, special tokens.
# Entries of another version are no longer found and are evicted as the oldest.
_VERSION = 3
_LIMIT = 512 * 2**20  # bytes: 128 tokens of FLAN-T5-XL are 0.5 MB in fp16
_ABANDONED = 3600  # seconds after which a temporary file belongs to no running process

_COUNTS = [field.name for field in fields(PromptCounts)]


def cache_key(*parts: object) -> str:
    """Return the cache key of a prompt (one-way hash).

    Args:
        parts: everything that the features depend on (strings, numbers, None) beside the version
            of transformers.
    """
    versions = [_VERSION, importlib.metadata.version("transformers")]
    return hashlib.sha256(json.dumps([*versions, *parts]).encode()).hexdigest()


@functools.cache
def feature_cache() -> "FeatureCache":
    """Return this ComfyUI's cache. Its folder begins with `__`, which no user's request reaches."""
    return FeatureCache(Path(folder_paths.get_user_directory()) / "__ella" / "features")


class FeatureCache:
    """Encoded prompts, one file each. The least recently used are evicted.

    An entry that is damaged, or that another process changes, is not found; a wrong one is never
    returned. An entry that can't be written is not kept.

    Attributes:
        folder: holds the entries.
    """

    def __init__(self, folder: Path, limit: int = _LIMIT) -> None:
        self.folder = folder
        self._limit = limit  # bytes
        self._warned = False

    def get(self, key: str) -> EncodedPrompt | None:
        """Return the prompt that was put under `key`, on the CPU; None if there is none."""
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
        """Keep `prompt` if it can be written and is smaller than the limit."""
        if prompt.features.nbytes > self._limit:
            return
        features = prompt.features.cpu().contiguous()
        about = {name: int(getattr(prompt, name)) for name in _COUNTS}
        described = json.dumps(
            {
                **about,
                "llm": prompt.llm and asdict(prompt.llm),
                "mask": None if prompt.mask is None else prompt.mask.tolist(),
            }
        )
        checksum = _checksum(key, features, described)
        data = save({"features": features}, {"prompt": described, "sha256": checksum})
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
            Their number and their bytes.
        """
        deleted = [entry.size for entry in self._files(".safetensors") if _delete(entry.path)]
        self._sweep()
        return len(deleted), sum(deleted)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file atomically."""
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
        """Delete temporary files of interrupted writes."""
        for file in self._files(".tmp"):
            if time.time_ns() - file.used > _ABANDONED * 1e9:
                _delete(file.path)

    def _files(self, suffix: str) -> list["_File"]:
        """Return files with this suffix, the least recently used first."""
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
    if metadata.keys() != {"prompt", "sha256"}:
        raise ValueError(f"its metadata are {sorted(metadata)}, not prompt and sha256")
    described = metadata["prompt"]
    if _checksum(key, features, described) != metadata["sha256"]:
        raise ValueError("its checksum is wrong")
    about = json.loads(described)
    llm, mask = about.pop("llm"), about.pop("mask")
    return EncodedPrompt(
        features,
        llm and LLMIdentity(**llm),
        None if mask is None else torch.tensor(mask, dtype=torch.bool),
        **about,
    )


def _checksum(key: str, features: torch.Tensor, described: str) -> str:
    """Hash everything that makes an entry, the header's share included."""
    about = [key, str(features.dtype), list(features.shape), described]
    digest = hashlib.sha256(json.dumps(about).encode())
    digest.update(features.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _delete(path: Path) -> bool:
    """Return True if this call deleted it. On Windows a file that is being read stays."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
