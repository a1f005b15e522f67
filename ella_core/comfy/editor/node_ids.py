"""Node ids that other packs have too. ComfyUI keeps one node for each id and says nothing."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from server import PromptServer

logger = logging.getLogger("ella")


def report_shared_ids(nodes: Iterable[Any], registered: Mapping[str, Any]) -> None:
    """Log at ComfyUI's start which packs have ids of ours, and whose nodes are used.

    Args:
        nodes: ours. ComfyUI has not registered them yet: they replace those of packs loaded
            earlier.
        registered: ComfyUI's nodes by id.
    """
    ours = {node.GET_SCHEMA().node_id: node for node in nodes}
    earlier = {node_id: registered.get(node_id) for node_id in ours}

    async def compare(_: Any) -> None:
        shared: dict[tuple[str, bool], list[str]] = {}
        for node_id, node in ours.items():
            used = registered.get(node_id)
            other = earlier[node_id] if used is node else used
            if other is not None:
                shared.setdefault((_pack(other), used is node), []).append(node_id)
        for (pack, is_ours), ids in shared.items():
            logger.warning(
                "%s has nodes with the same ids as ELLA Nodes: %s. ComfyUI uses those of %s. "
                "Disable one of the two packs.",
                pack,
                ", ".join(ids),
                "ELLA Nodes" if is_ours else pack,
            )

    PromptServer.instance.app.on_startup.append(compare)  # when all packs are loaded


def _pack(node: Any) -> str:
    module: str = getattr(node, "RELATIVE_PYTHON_MODULE", "ComfyUI")
    return module.removeprefix("custom_nodes.")
