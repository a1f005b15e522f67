"""How wide a context models read and connectors write, from their files' headers alone."""

from pathlib import Path

import folder_paths
from safetensors import SafetensorError, safe_open

from ...checkpoint import read_header
from ...errors import EllaError
from . import folders

_MODELS = ("checkpoints", "diffusion_models")
_READS_CONTEXT = "attn2.to_k.weight"  # of every cross-attention of Stable Diffusion's U-Nets


def model_width(name: str) -> int | None:
    """Return the width of the context that a model reads: 768 for SD1.5, 2048 for SDXL.

    Returns:
        None if the file is not there, is no safetensors file, or has no such U-Net.
    """
    places = (folder_paths.get_full_path(folder, name) for folder in _MODELS)
    path = next(filter(None, places), None)
    if path is None:
        return None
    try:
        with safe_open(path, framework="pt") as file:
            names: list[str] = [*file.keys()]
            key = next((name for name in names if name.endswith(_READS_CONTEXT)), None)
            return file.get_slice(key).get_shape()[1] if key else None
    except (OSError, SafetensorError):
        return None


def connector_widths() -> dict[str, int]:
    """Return name -> width of the context that it writes, of the connectors that can be read."""
    widths = {}
    for name in folders.connector_names():
        try:
            path: Path = folders.connector_path(name)
            config, _ = read_header(path)
        except EllaError:  # said when the graph runs
            continue
        widths[name] = getattr(config, "context_dim", None) or config.width
    return widths
