"""ELLA Nodes: Stable Diffusion with the language understanding of an LLM, in ComfyUI."""

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """Called by ComfyUI. The imports wait for it, so that tools can import this file without."""
    from .nodes import EllaExtension

    return EllaExtension()
