"""Queueing a workflow that was saved by the editor."""

from typing import Any

API = dict[str, dict[str, Any]]

_ON_CANVAS_ONLY = ("Note", "MarkdownNote")
_UPLOAD_BUTTON = "IMAGEUPLOAD"  # saved like a widget, but never sent
_SEEDS = ("seed", "noise_seed")  # behind one comes what to do with it after a run


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
    """Return the API form of an editor workflow without subgraphs, muted or bypassed nodes.

    Args:
        workflow: as the editor saved it.
        infos: ComfyUI's `/object_info`. A widget that is newer than the workflow gets its default.
    """
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt: API = {}
    for node in workflow["nodes"]:
        if node["type"] in _ON_CANVAS_ONLY:
            continue
        inputs = _defaults(infos[node["type"]]) | widgets(node)
        linked = {entry["name"]: entry["link"] for entry in node["inputs"]}
        inputs |= {name: sources[link] for name, link in linked.items() if link is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


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
