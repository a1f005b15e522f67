"""Folders of this ComfyUI that hold tokenizers."""

from pathlib import Path

import folder_paths
from comfy import model_management

from ...text_encoders import TokenizerPlaces


def tokenizer_places() -> TokenizerPlaces:
    """Return where tokenizers may be beside an LLM's own files."""
    shipped = Path(model_management.__file__).parent / "text_encoders"
    # Other users' requests don't reach folders that begin with `__`.
    cache = Path(folder_paths.get_user_directory()) / "__ella" / "tokenizers"
    return TokenizerPlaces(shipped, cache)
