"""Queueing a workflow that was saved by the editor."""

from collections.abc import Collection
from typing import Any

API = dict[str, dict[str, Any]]

_ON_CANVAS_ONLY = ("Note", "MarkdownNote")
_UPLOAD_BUTTON = "IMAGEUPLOAD"  # saved like a widget, but never sent
_SEEDS = ("seed", "noise_seed")  # behind one comes what to do with it after a run
_BYPASSED = 4  # the editor's number for it


def widgets(node: dict[str, Any]) -> dict[str, Any]:
    """Name -> value of a node's widgets.

    The editor writes them as inputs with a `widget` entry, in the order of `widgets_values`.
    """
    values = iter(node.get("widgets_values", ()))
    found = {}
    for entry in node["inputs"]:
        if "widget" in entry:
            value = next(values)
            if entry["name"] in _SEEDS:
                next(values)
            if entry["type"] != _UPLOAD_BUTTON:
                found[entry["name"]] = value
    return found


def to_api(workflow: dict[str, Any], infos: dict[str, Any]) -> API:
    """Return the API form of an editor workflow without subgraphs and muted nodes.

    Args:
        workflow: as the editor saved it.
        infos: ComfyUI's `/object_info`. A widget that is newer than the workflow gets its default.
    """
    prompt: API = {}
    for node in workflow["nodes"]:
        if node["type"] in _ON_CANVAS_ONLY or node["mode"] == _BYPASSED:
            continue
        inputs = _defaults(infos[node["type"]]) | widgets(node)
        linked = {e["name"]: e["link"] for e in node["inputs"] if e["link"] is not None}
        sources = {name: _source(workflow, link) for name, link in linked.items()}
        inputs |= {name: list(source) for name, source in sources.items() if source}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def bypass(workflow: dict[str, Any], types: Collection[str]) -> dict[str, Any]:
    """Bypass the nodes of these types, in place.

    Nodes that then lack an input, or whose outputs nothing uses, are bypassed too.
    """
    nodes = workflow["nodes"]
    for node in nodes:
        if node["type"] in types:
            node["mode"] = _BYPASSED
    before = None
    while before != (now := [node["id"] for node in nodes if node["mode"] != _BYPASSED]):
        before = now
        inputs = {
            node["id"]: [_source(workflow, e["link"]) for e in node["inputs"] if e["link"]]
            for node in nodes
            if node["mode"] != _BYPASSED
        }
        used = {source[0] for sources in inputs.values() for source in sources if source}
        for node in nodes:
            unused = any(slot["links"] for slot in node["outputs"]) and str(node["id"]) not in used
            if unused or not all(inputs.get(node["id"], ())):
                node["mode"] = _BYPASSED
    return workflow


def _source(workflow: dict[str, Any], link_id: int) -> tuple[str, int] | None:
    """Return id and output of the node that a link's value comes from.

    What comes from a bypassed node is its first input of the type that is asked for; None if it has
    none.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    *_, target, slot, _ = links[link_id]
    kind = nodes[target]["inputs"][slot]["type"]
    while True:
        node_id, output = links[link_id][1:3]
        if nodes[node_id]["mode"] != _BYPASSED:
            return str(node_id), output
        entries = nodes[node_id]["inputs"]
        through = [e["link"] for e in entries if e["type"] == kind and e["link"] is not None]
        if not through:
            return None
        link_id = through[0]


def from_elsewhere(workflow: dict[str, Any]) -> dict[str, str]:
    """Type -> pack, as ComfyUI-Manager knows it, of nodes that are neither ours nor in every host.

    `comfy-core` is the pack of nodes that only newer versions of ComfyUI have.
    """
    nodes = workflow["nodes"]
    return {n["type"]: n["properties"]["cnr_id"] for n in nodes if "cnr_id" in n["properties"]}


def _defaults(info: dict[str, Any]) -> dict[str, Any]:
    """Name -> default of a node's required widgets."""
    required = info["input"].get("required", {})
    options = {name: spec[1] for name, spec in required.items() if spec[1:]}
    return {name: each["default"] for name, each in options.items() if "default" in each}


def set_widgets(workflow: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Give every widget of one of these names its value, in place."""
    for node in workflow["nodes"]:
        position = 0
        for entry in node["inputs"]:
            if "widget" in entry:
                if entry["name"] in values:
                    node["widgets_values"][position] = values[entry["name"]]
                position += 2 if entry["name"] in _SEEDS else 1
    return workflow
