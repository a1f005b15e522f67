"""The nodes that keep other packs' graphs running, as the editor sees them."""

import re

import pytest

from support.deprecated import ADAPTER_PACK, OFFICIAL

NODES = {**OFFICIAL, **ADAPTER_PACK}


@pytest.fixture(scope="module")
def infos(host):
    return host.server.get("/object_info")


def test_these_are_all_of_them(infos):
    ours = {name for name, info in infos.items() if info["python_module"].endswith("ELLA-Nodes")}
    assert {name for name in ours if infos[name]["deprecated"]} == NODES.keys()


@pytest.mark.parametrize("name", NODES)
def test_inputs_and_outputs(infos, name):
    info, (inputs, outputs) = infos[name], NODES[name]
    found = {name: spec[0] for name, spec in info["input"]["required"].items()}
    found |= {f"{name}?": spec[0] for name, spec in info["input"].get("optional", {}).items()}
    assert list(found.items()) == list(inputs.items())
    assert info["output"] == outputs


@pytest.mark.parametrize("name", NODES)
def test_what_to_use_instead_is_said(infos, name):
    info = infos[name]
    assert info["category"] == "ELLA/deprecated"
    instead = re.fullmatch(r".+ \(now (.+)\)", info["display_name"]).group(1)
    assert info["description"].endswith(f"In new graphs: {instead}.")
    ours = [other["display_name"] for other in infos.values() if other["category"] == "ELLA"]
    assert instead == "left out" or any(node in instead for node in ours)
    inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
    assert all(options["tooltip"] for _, options in inputs.values())
    assert all(info["output_tooltips"])
