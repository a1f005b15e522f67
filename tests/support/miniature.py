"""The shipped miniature and its LLM in a ComfyUI of the tests."""

from pathlib import Path

from bootstrap import CACHE
from miniature import shipping
from smollm2 import NAME, unpack_smollm2


def install(models: Path) -> None:
    """Put both into a new ComfyUI's `models` folder; the LLM is a link."""
    shipping.install(models)
    unpack_smollm2(CACHE / NAME)
    llms = models / "text_encoders"
    llms.mkdir()
    (llms / NAME).symlink_to(CACHE / NAME)
