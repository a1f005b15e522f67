"""Compares a graph with what became of it when ELLA reads its prompts.

Both are in API form. What reads a prompt counts as the prompt alone, and the nodes that patch MODEL
for ELLA count as their input, so two graphs are the same if nothing else has changed, whatever the
ids.
"""

import hashlib
import json
from typing import Any

API = dict[str, dict[str, Any]]


def signatures(prompt: API) -> list[str]:
    """Return a signature of each node that saves or previews something, in order."""
    seen: dict[tuple[str, int], str] = {}
    savers = [key for key, node in prompt.items() if "Image" in node["class_type"]]
    savers = [key for key in savers if prompt[key]["class_type"] in ("SaveImage", "PreviewImage")]
    return sorted(_sign(prompt, [key, 0], seen) for key in savers)


def _sign(prompt: API, link: list[Any], seen: dict[tuple[str, int], str]) -> str:
    key = (link[0], link[1])
    if key not in seen:
        seen[key] = _digest(prompt, *key, seen)
    return seen[key]


def _digest(prompt: API, node_id: str, slot: int, seen: dict[tuple[str, int], str]) -> str:
    node = prompt[node_id]
    kind, inputs = node["class_type"], node["inputs"]

    def value(each: Any) -> Any:
        return _sign(prompt, each, seen) if isinstance(each, list) else each

    def read(name: str) -> str:
        encoded = prompt[inputs[name][0]]
        assert encoded["class_type"] == "ELLALLMTextEncode"
        return f"prompt {value(encoded['inputs']['text'])}"

    if kind == "CLIPTextEncode":
        return f"prompt {value(inputs['text'])}"
    if kind == "ELLAConditioning":
        return read("embeds")
    if kind in ("ELLAPatchModel", "ELLATimestepConditioning") and slot == 0:
        return str(value(inputs["model"]))
    if kind == "ELLATimestepConditioning":
        return read(("positive", "negative")[slot - 1])
    content = [kind, slot, {name: value(each) for name, each in sorted(inputs.items())}]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def unpatched(prompt: API) -> list[str]:
    """Return the nodes that take one of ELLA's conditionings and a MODEL that is not patched."""
    wrong = []
    for key, node in prompt.items():
        inputs = [each for each in node["inputs"].values() if isinstance(each, list)]
        models = [link for link in inputs if link == node["inputs"].get("model")]
        reads = any(_from_ella(prompt, link) for link in inputs if link not in models)
        ours = node["class_type"].startswith("ELLA")
        if models and reads and not ours and not _patched(prompt, models[0]):
            wrong.append(key)
    return wrong


def _from_ella(prompt: API, link: list[Any]) -> bool:
    node = prompt[link[0]]
    if node["class_type"] in ("ELLAConditioning", "ELLATimestepConditioning"):
        return True
    if "Conditioning" not in node["class_type"] and "ControlNetApply" not in node["class_type"]:
        return False
    return any(
        _from_ella(prompt, each) for each in node["inputs"].values() if isinstance(each, list)
    )


def _patched(prompt: API, link: list[Any]) -> bool:
    node = prompt[link[0]]
    if node["class_type"] in ("ELLAPatchModel", "ELLATimestepConditioning"):
        return True
    model = node["inputs"].get("model")
    return isinstance(model, list) and _patched(prompt, model)
