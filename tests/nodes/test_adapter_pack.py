"""ComfyUI_LLM_SDXL_Adapter's nodes as the editor sees them, and what they do in wrong graphs."""

import re

import pytest

from comfyui import Server
from support.host import T5, EllaGraph, Graph

PLACING = {"device?": "COMBO", "force_reload?": "BOOLEAN"}
LLM_LOADER = ({"model_name": "COMBO", **PLACING}, ["LLM_MODEL", "LLM_TOKENIZER", "STRING"])
SIZES = ("llm_dim", "sdxl_seq_dim", "sdxl_pooled_dim", "target_seq_len")
SIZES += ("n_wide_blocks", "n_narrow_blocks", "num_heads")
PICTURE = ("width", "height", "target_width", "target_height", "crop_w", "crop_h")

# id: inputs in the order of the widgets (optional ones with a question mark), outputs
NODES = {
    "LLMModelLoader": LLM_LOADER,
    "LLMGGUFModelLoader": LLM_LOADER,
    "T5GEMMALoader": LLM_LOADER,
    "LLMTextEncoder": (
        {
            "model": "LLM_MODEL",
            "tokenizer": "LLM_TOKENIZER",
            "text": "STRING",
            "system_prompt?": "STRING",
            "skip_first?": "INT",
        },
        ["LLM_HIDDEN_STATES", "STRING"],
    ),
    "T5GEMMATextEncoder": (
        {
            "llm_model": "LLM_MODEL",
            "llm_tokenizer": "LLM_TOKENIZER",
            "text": "STRING",
            "max_length": "INT",
            "device": "COMBO",
            "dtype": "COMBO",
        },
        ["LLM_HIDDEN_STATES", "LLM_ATTENTION_MASK", "STRING"],
    ),
    "LLMAdapterLoader": (
        {"adapter_name": "COMBO", "type": "COMBO", **PLACING},
        ["LLM_ADAPTER", "STRING"],
    ),
    "LLMAdapterLoaderCustom": (
        {
            "adapter_name": "COMBO",
            **{f"{name}?": "INT" for name in SIZES},
            "dropout?": "FLOAT",
            **PLACING,
        },
        ["LLM_ADAPTER", "STRING"],
    ),
    "ApplyLLMToSDXLAdapter": (
        {"llm_hidden_states": "LLM_HIDDEN_STATES", "llm_adapter": "LLM_ADAPTER"},
        ["CONDITIONING", "STRING"],
    ),
    "t5gemmaApplyLLMToSDXLAdapter": (
        {
            "llm_hidden_states": "LLM_HIDDEN_STATES",
            "llm_attention_mask": "LLM_ATTENTION_MASK",
            "llm_adapter": "LLM_ADAPTER",
            **{f"{name}?": "INT" for name in PICTURE},
        },
        ["CONDITIONING"],
    ),
}


@pytest.fixture(scope="module")
def infos(host):
    return host.server.get("/object_info")


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
    assert info["deprecated"]
    assert info["category"] == "ELLA/deprecated"
    instead = re.fullmatch(r".+ \(now (.+)\)", info["display_name"]).group(1)
    assert instead in {
        each["display_name"] for each in infos.values() if each["category"] == "ELLA"
    }
    inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
    assert all(options["tooltip"] for _, options in inputs.values())
    assert all(info["output_tooltips"])


def error_of(host, graph, source):
    graph.add("PreviewAny", source=source)
    error = host.run(graph).error
    assert error is not None
    return error["exception_message"]


def test_a_file_that_is_missing(host):
    """That pack's adapter then has random weights."""
    graph = Graph()
    adapter = graph.add("LLMAdapterLoader", adapter_name="gone.safetensors", type="gemma")
    assert "'gone.safetensors' was not found" in error_of(host, graph, adapter)
    graph = Graph()
    assert "'gone' was not found" in error_of(
        host, graph, graph.add("LLMModelLoader", model_name="gone")
    )


def test_a_connector_that_is_no_adapter(host):
    graph = Graph()
    llm = graph.add("LLMModelLoader", model_name=T5)
    inputs = {"llm_model": llm[0], "llm_tokenizer": llm[1]}
    given = {"max_length": 512, "device": "cuda", "dtype": "bfloat16"}
    text = graph.add("T5GEMMATextEncoder", text="a", **inputs, **given)
    ella = graph.add("LLMAdapterLoader", adapter_name="tsc.safetensors", type="gemma")
    applied = graph.add("ApplyLLMToSDXLAdapter", llm_hidden_states=text, llm_adapter=ella)
    message = error_of(host, graph, applied)
    assert "tsc.safetensors is no LLM adapter for SDXL. Connect it to ELLA Timestep" in message


def test_wires_of_another_pack(host):
    graph = EllaGraph()
    foreign = graph.add("TestForeignConnector")
    llm = graph.add("LLMModelLoader", model_name=T5)
    text = graph.add("LLMTextEncoder", model=foreign[1], tokenizer=llm[1], text="a")
    message = error_of(host, graph, text)
    assert "The input model got a dict, which another node pack made" in message


PACK = """
class Node:
    FUNCTION, RETURN_TYPES, CATEGORY = "run", (), ""
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})

NODE_CLASS_MAPPINGS = {node_id: Node for node_id in NODE_IDS}
"""


def test_other_packs_keep_their_ids(tmp_path):
    """Those of that pack, loaded after this one, and one of another pack, loaded before."""
    others = {"before": ["LLMModelLoader"], "after": [name for name in NODES if name[0] != "L"]}
    sections = ""
    for name, ids in others.items():
        pack = tmp_path / name / f"loaded {name}"
        pack.mkdir(parents=True)
        (pack / "__init__.py").write_text(PACK.replace("NODE_IDS", repr(ids)))
        default = str(name == "before").lower()  # ComfyUI loads the default folder's packs first
        sections += f"{name}:\n  custom_nodes: '{pack.parent}'\n  is_default: {default}\n"
    (tmp_path / "paths.yaml").write_text(sections)
    arguments = ["--cpu", "--extra-model-paths-config", str(tmp_path / "paths.yaml")]
    with Server(tmp_path / "base", arguments) as server:
        infos, log = server.get("/object_info"), server.log_text()
    for name in NODES:
        pack = next((f"loaded {when}" for when, ids in others.items() if name in ids), "ELLA-Nodes")
        assert infos[name]["python_module"] == f"custom_nodes.{pack}"
    assert "nodes with the same ids" not in log  # nothing is wrong with that
