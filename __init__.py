"""ELLA Nodes: Stable Diffusion with the language understanding of an LLM, in ComfyUI."""

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """Called by ComfyUI. The imports wait for it, so that tools can import this file without.

    Raises:
        ImportError: something is missing. ComfyUI logs the message as one line and goes on.
    """
    try:
        from .nodes import EllaExtension
    except (ImportError, AttributeError) as error:  # modules and names that are not there
        raise ImportError(
            f"ELLA Nodes needs ComfyUI 0.3.64 or later and the packages in its requirements.txt: "
            f"{error}. Update ComfyUI, install the packages, and restart."
        ) from error

    return EllaExtension()
