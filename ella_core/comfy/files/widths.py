"""How wide a context models read and connectors write, from their files' headers alone."""

import re
from pathlib import Path

import folder_paths
from safetensors import SafetensorError, safe_open

from ...checkpoint import read_header
from ...errors import EllaError
from . import folders

_MODELS = ("checkpoints", "diffusion_models")
# A cross-attention of Stable Diffusion's U-Net, in its own names and in diffusers'. The blocks are
# part of it: transformers such as LTX-Video's have attentions of the same name.
_READS_CONTEXT = re.compile(
    r"(?:^|\.)(?:middle_block\.1|mid_block\.attentions\.0"
    r"|input_blocks\.\d+\.1|down_blocks\.\d+\.attentions\.\d+)"  # SSD-1B has none in the middle
    r"\.transformer_blocks\.\d+\.attn2\.to_k\.weight$"
)


def model_width(name: str) -> int | None:
    """Return the width of the context that a model reads.

    Returns:
        768 for SD1.5, 2048 for SDXL; 0 if the file has no such U-Net; None, which is unknown, if
        there is no such file or it can't be read as safetensors.
    """
    places = (folder_paths.get_full_path(folder, name) for folder in _MODELS)
    path = next(filter(None, places), None)
    if path is None:
        return None
    try:
        with safe_open(path, framework="pt") as file:
            names: list[str] = [*file.keys()]
            key = next(filter(_READS_CONTEXT.search, names), None)
            return file.get_slice(key).get_shape()[1] if key else 0
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
