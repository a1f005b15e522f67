"""The nodes, a file per topic, each with its own `NODES` list."""

from comfy_api.latest import ComfyExtension, io

from ..ella_core.comfy.editor.node_ids import report_shared_ids
from ..ella_core.comfy.editor.routes import register_routes
from ..ella_core.comfy.files.folders import register_folders
from . import conditioning, downloads, loaders, official, text


class EllaExtension(ComfyExtension):
    """The pack as ComfyUI's loader sees it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Register folders and routes, and return all nodes."""
        from nodes import NODE_CLASS_MAPPINGS  # ComfyUI's module, not this package

        register_folders()
        register_routes()
        ours = [*loaders.NODES, *text.NODES, *conditioning.NODES, *downloads.NODES]
        report_shared_ids([*ours, *official.NODES], NODE_CLASS_MAPPINGS)
        # ComfyUI-ELLA owns these ids. If it is loaded later, its nodes replace these.
        return ours if "T5TextEncode #ELLA" in NODE_CLASS_MAPPINGS else [*ours, *official.NODES]
