"""A graph in the form that the editor saved in the official pack's days."""

import json
from pathlib import Path

WIDGETS = {"INT", "FLOAT", "STRING", "COMBO"}


def to_api(workflow, infos):
    """Inputs of that form are links only; `widgets_values` has the widgets in their order."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        schema = infos[node["type"]]["input"]
        values = iter(node["widgets_values"])
        inputs = {i["name"]: sources[i["link"]] for i in node["inputs"] if i["link"]}
        for name, spec in {**schema["required"], **schema.get("optional", {})}.items():
            if isinstance(spec[0], list) or spec[0] in WIDGETS:
                inputs[name] = next(values)
                if name == "seed":
                    next(values)  # what the editor does to it after a run
        assert list(values) == []
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def test_runs(host):
    workflow = json.loads((Path(__file__).parent / "official-pack.json").read_text("utf-8"))
    result = host.server.run(to_api(workflow, host.server.get("/object_info")))
    assert result.error is None, result.error
    assert result.outputs["11"]["images"]
