"""Connector checkpoints: reading them strictly, and writing them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .config import ConnectorConfig, ConnectorMetadata, LLMAdapterConfig, MLPConfig
from .connectors import Connector, Operations, build_connector
from .errors import EllaError
from .layout import check_layout, detect_config, from_file_layout, plain_names, to_file_layout

_RELEASED = "ella-sd1.5-tsc-t5xl.safetensors"


def load_connector(
    path: Path, operations: Operations = torch.nn, dtype: torch.dtype | None = None
) -> Connector:
    """Read a connector of any kind and size; every tensor must be there and finite.

    Args:
        path: a `.safetensors` file in a released layout. Names may carry the prefixes of
            DistributedDataParallel and torch.compile; for the layouts of LLM adapters see
            `layout.plain_names`.
        operations: see `build_connector`.
        dtype: dtype to keep the weights in; None keeps the file's.

    Returns:
        The connector, with the file's metadata.

    Raises:
        EllaError: not a safetensors file, damaged, or not a connector.
    """
    with _open(path) as file, _naming(path):
        stored, shapes = _shapes_in(file)
        metadata = file.metadata() or {}
        config = detect_config(shapes, metadata)
        with torch.device("meta"):
            connector = build_connector(config, operations)
        connector.metadata = _parse_metadata(metadata, config)
        check_layout(connector, shapes)
        state = {key: file.get_tensor(name) for key, name in stored.items()}
        _check_finite(state)
    # Copies: a view of the file would change with it.
    state = {key: t.to(dtype, copy=True) for key, t in from_file_layout(state).items()}
    connector.load_state_dict(state, assign=True)
    return connector.eval().requires_grad_(False)


def read_header(path: Path) -> tuple[ConnectorConfig, ConnectorMetadata]:
    """Read what a connector is and how it was trained from its file's header.

    Raises:
        EllaError: not a safetensors file, damaged, not a connector, or the metadata are wrong.
    """
    with _open(path) as file, _naming(path):
        _, shapes = _shapes_in(file)
        metadata = file.metadata() or {}
        config = detect_config(shapes, metadata)
        return config, _parse_metadata(metadata, config)


def save_connector(connector: Connector, path: Path) -> None:
    """Write `connector` and its metadata in the layout that `load_connector` reads."""
    state = {k: v.contiguous() for k, v in to_file_layout(connector).items()}
    known = {k: str(v) for k, v in asdict(connector.metadata).items() if v is not None}
    if not isinstance(connector.config, MLPConfig):
        known["heads"] = str(connector.config.heads)
    save_file(state, path, metadata={"format": "pt", **known})


def _shapes_in(file: Any) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Return plain names with those in the file, and with the tensors' shapes."""
    stored = plain_names(file.keys())
    return stored, {key: tuple(file.get_slice(name).get_shape()) for key, name in stored.items()}


def _parse_metadata(metadata: Mapping[str, str], config: ConnectorConfig) -> ConnectorMetadata:
    known: dict[str, Any] = {}
    if isinstance(config, LLMAdapterConfig):
        known["trained_tokens"] = config.max_tokens
    for field in fields(ConnectorMetadata):
        text = metadata.get(field.name)
        if text is None:
            continue
        known[field.name] = text
        if field.type != str | None:
            known[field.name] = _parse_number(field.name, text)
    return ConnectorMetadata(**known)


def _parse_number(name: str, text: str) -> int:
    least = {"llm_layer": -1, "llm_layers": 0}.get(name, 1)  # word embeddings are an LLM of none
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise EllaError(
            f"its metadata says {text!r} for {name}, expected a whole number from {least} on"
        )
    return number


def _check_finite(state: Mapping[str, torch.Tensor]) -> None:
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            raise EllaError(f"{key} is stored as {tensor.dtype}, expected floating point")
        if not tensor.float().isfinite().all():
            raise EllaError(f"{key} holds NaN or infinite values")


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    if path.suffix.lower() not in (".safetensors", ".sft"):
        raise EllaError(
            f"{path.name} is not a .safetensors file. Other formats can run code when opened and "
            f"are refused: convert it with safetensors.torch.save_file, or use {_RELEASED}."
        )
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise EllaError(f"There is no file {path}. Put {_RELEASED} there.") from error
    except OSError as error:
        raise EllaError(
            f"{path} can't be opened: {error}. Check that ComfyUI may read it and that there is "
            f"enough free memory, and queue again."
        ) from error
    except SafetensorError as error:
        raise EllaError(
            f"{path.name} cannot be read as safetensors ({error}). It holds "
            f"{path.stat().st_size:,} bytes and is probably cut short or damaged: delete it from "
            f"models/ella and download it again."
        ) from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of what went wrong, and the remedy behind it."""
    try:
        yield
    except EllaError as error:
        raise EllaError(
            f"{path.name} is not a usable ELLA connector: {error}. "
            f"Choose {_RELEASED} (from Hugging Face QQGYLab/ELLA) in Load ELLA, or for SDXL an LLM "
            f"adapter such as RouWei-Gemma's."
        ) from None
