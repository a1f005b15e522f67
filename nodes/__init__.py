"""The nodes, a file per topic, each with its own `NODES` list."""

from comfy_api.latest import ComfyExtension, io

from ..ella_core.comfy.editor.node_ids import report_shared_ids
from ..ella_core.comfy.editor.routes import register_routes
from ..ella_core.comfy.editor.templates import order_templates
from ..ella_core.comfy.files.folders import register_folders
from . import (
    adapter_pack,
    attention,
    conditioning,
    downloads,
    files,
    loaders,
    official,
    prompt,
    sdxl,
    sheet,
    text,
    upsample,
)


class EllaExtension(ComfyExtension):
    """The pack as ComfyUI's loader sees it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Register folders and routes, and return all nodes."""
        from nodes import NODE_CLASS_MAPPINGS  # ComfyUI's module, not this package

        register_folders()
        register_routes()
        order_templates()
        topics = (
            *(loaders, text, conditioning, sdxl, prompt, attention, upsample),
            *(files, sheet, downloads),
        )
        ours = [node for topic in topics for node in topic.NODES]
        report_shared_ids([*ours, *official.NODES], NODE_CLASS_MAPPINGS)
        # Other packs own the ids below. Where they are loaded later, their nodes replace these.
        if "T5TextEncode #ELLA" not in NODE_CLASS_MAPPINGS:
            ours += official.NODES
        # Some are words that further packs use too, for nodes that have nothing to do with these.
        return ours + [
            node
            for node in adapter_pack.NODES
            if node.GET_SCHEMA().node_id not in NODE_CLASS_MAPPINGS
        ]
