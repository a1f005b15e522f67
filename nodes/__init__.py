"""The nodes, a file per topic, each with its own `NODES` list."""

from comfy_api.latest import ComfyExtension, io

from ..ella_core.comfy.folders import register_folders
from ..ella_core.comfy.routes import register_routes
from . import conditioning, downloads, loaders, text


class EllaExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes of the pack."""
        register_folders()
        register_routes()
        return [*loaders.NODES, *text.NODES, *conditioning.NODES, *downloads.NODES]
