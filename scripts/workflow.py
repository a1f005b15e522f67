"""Queueing a workflow that was saved by the editor."""

from typing import Any

API = dict[str, dict[str, Any]]

_ON_CANVAS_ONLY = ("Note", "MarkdownNote")


def to_api(workflow: dict[str, Any]) -> API:
    """The API form of an editor workflow without subgraphs, muted or bypassed nodes.

    The editor writes a node's widgets as inputs with a `widget` entry, in the order of
    `widgets_values`; behind a seed it keeps what to do with the seed after a run.
    """
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt: API = {}
    for node in workflow["nodes"]:
        if node["type"] in _ON_CANVAS_ONLY:
            continue
        inputs: dict[str, Any] = {}
        values = iter(node.get("widgets_values", ()))
        for entry in node["inputs"]:
            name = entry["name"]
            if "widget" in entry:
                inputs[name] = next(values)
                if name in ("seed", "noise_seed"):
                    next(values)
            if entry["link"] is not None:
                inputs[name] = sources[entry["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def set_widgets(workflow: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Give every widget of one of these names its value, in place."""
    for node in workflow["nodes"]:
        position = 0
        for entry in node["inputs"]:
            if "widget" in entry:
                if entry["name"] in values:
                    node["widgets_values"][position] = values[entry["name"]]
                position += 2 if entry["name"] in ("seed", "noise_seed") else 1
    return workflow
