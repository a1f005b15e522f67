"""The nodes, a file per topic, each with its own `NODES` list."""

from comfy_api.latest import ComfyExtension, io

from ..ella_core.comfy.editor.routes import register_routes
from ..ella_core.comfy.files.folders import register_folders
from . import conditioning, downloads, loaders, official, text


class EllaExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes of the pack."""
        register_folders()
        register_routes()
        ours = [*loaders.NODES, *text.NODES, *conditioning.NODES, *downloads.NODES]
        return [*ours, *_official_nodes()]


def _official_nodes() -> list[type[io.ComfyNode]]:
    """None if the official pack is loaded: its ids are its own.

    If it is loaded after this pack, ComfyUI puts its nodes in the place of these.
    """
    from nodes import NODE_CLASS_MAPPINGS  # ComfyUI's module, not this package

    return [] if "T5TextEncode #ELLA" in NODE_CLASS_MAPPINGS else official.NODES
