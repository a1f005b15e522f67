"""The nodes as the editor sees them. Ids and input names are public and never change."""

import os
import subprocess
import sys

import pytest

from bootstrap import ROOT
from comfyui import PACK_NAME, Server
from support.deprecated import ADAPTER_PACK
from support.host import T5

# id: display name, inputs in order (optional ones with a question mark), outputs
NODES = {
    "ELLALoad": ("Load ELLA", {"ella_name": "COMBO"}, ["ELLA"]),
    "ELLALoadLLM": (
        "Load LLM (ELLA)",
        {"llm_name": "COMBO", "dtype?": "COMBO"},
        ["ELLA_LLM"],
    ),
    "ELLALLMTextEncode": (
        "LLM Text Encode (ELLA)",
        {"llm": "ELLA_LLM", "text": "STRING", "max_length?": "INT", "long_prompt?": "COMBO"},
        ["ELLA_LLM_EMBEDS"],
    ),
    "ELLAPromptTemplate": (
        "ELLA Prompt Template",
        {
            "llm": "ELLA_LLM",
            "system_prompt?": "STRING",
            "template?": "STRING",
            "skip_tokens?": "INT",
        },
        ["ELLA_LLM"],
    ),
    "ELLALoadModels": (
        "Load ELLA Models",
        {"ella_name?": "COMBO", "llm_name?": "COMBO", "dtype?": "COMBO"},
        ["ELLA", "ELLA_LLM"],
    ),
    "ELLAPrompt": (
        "ELLA Prompt",
        {
            "model": "MODEL",
            "ella": "ELLA",
            "llm": "ELLA_LLM",
            "positive": "STRING",
            "clip?": "CLIP",
            "clip_text?": "STRING",
            "negative?": "STRING",
        },
        ["MODEL", "CONDITIONING", "CONDITIONING"],
    ),
    "ELLAAttentionMap": (
        "ELLA Attention Map",
        {
            "ella": "ELLA",
            "embeds": "ELLA_LLM_EMBEDS",
            "timesteps?": "INT",
            "block?": "INT",
            "head?": "INT",
            "latent?": "INT",
        },
        ["IMAGE", "STRING"],
    ),
    "ELLASaveEmbeds": (
        "ELLA Save Embeds",
        {"embeds": "ELLA_LLM_EMBEDS", "filename_prefix?": "STRING"},
        ["STRING"],
    ),
    "ELLALoadEmbeds": ("ELLA Load Embeds", {"embeds_name": "COMBO"}, ["ELLA_LLM_EMBEDS"]),
    "ELLAPromptList": ("ELLA Prompt List", {"text?": "STRING", "file?": "COMBO"}, ["STRING"]),
    "ELLAXYValues": (
        "ELLA XY Values",
        {
            "x_values": "STRING",
            "x_name?": "STRING",
            "y_values?": "STRING",
            "y_name?": "STRING",
        },
        ["*", "*", "ELLA_XY"],
    ),
    "ELLAXYSheet": (
        "ELLA XY Sheet",
        {"images": "IMAGE", "axes": "ELLA_XY", "title?": "STRING"},
        ["IMAGE"],
    ),
    "ELLAUpsamplePrompt": (
        "ELLA Upsample Prompt",
        {
            "llm": "ELLA_LLM",
            "text": "STRING",
            "seed?": "INT",
            "tokens?": "INT",
            "instruction?": "STRING",
        },
        ["STRING"],
    ),
    "ELLATimestepConditioning": (
        "ELLA Timestep Conditioning",
        {
            "model": "MODEL",
            "ella": "ELLA",
            "positive": "ELLA_LLM_EMBEDS",
            "negative?": "ELLA_LLM_EMBEDS",
            "clip_positive?": "CONDITIONING",
            "clip_negative?": "CONDITIONING",
        },
        ["MODEL", "CONDITIONING", "CONDITIONING"],
    ),
    "ELLAConditioning": (
        "ELLA Conditioning",
        {
            "ella": "ELLA",
            "embeds": "ELLA_LLM_EMBEDS",
            "clip?": "CONDITIONING",
            "strength?": "FLOAT",
        },
        ["CONDITIONING"],
    ),
    "ELLAPatchModel": ("ELLA Patch Model", {"model": "MODEL"}, ["MODEL"]),
    "ELLABlendEmbeds": (
        "ELLA Blend Embeds",
        {"embeds_a": "ELLA_LLM_EMBEDS", "embeds_b": "ELLA_LLM_EMBEDS", "factor?": "FLOAT"},
        ["ELLA_LLM_EMBEDS"],
    ),
    "ELLASDXLOptions": (
        "ELLA SDXL Options",
        {
            "conditioning": "CONDITIONING",
            "clip?": "CONDITIONING",
            "clip_pooled?": "FLOAT",
            "width?": "INT",
            "height?": "INT",
            "crop_w?": "INT",
            "crop_h?": "INT",
            "target_width?": "INT",
            "target_height?": "INT",
        },
        ["CONDITIONING"],
    ),
    "ELLADownloadModels": ("Download ELLA models", {"models?": "COMBO"}, ["STRING"]),
}


@pytest.fixture(scope="module")
def infos(host):
    infos = host.server.get("/object_info")
    ours = {
        name: info for name, info in infos.items() if info["python_module"].endswith("ELLA-Nodes")
    }
    return {name: info for name, info in ours.items() if not info.get("deprecated")}


def test_these_are_all_the_nodes(infos):
    assert infos.keys() == NODES.keys()


@pytest.mark.parametrize("name", NODES)
def test_inputs_and_outputs(infos, name):
    info = infos[name]
    display_name, inputs, outputs = NODES[name]
    assert info["display_name"] == display_name
    found = {name: spec[0] for name, spec in info["input"].get("required", {}).items()}
    found |= {f"{name}?": spec[0] for name, spec in info["input"].get("optional", {}).items()}
    assert list(found.items()) == list(inputs.items())
    assert info["output"] == outputs


@pytest.mark.parametrize("name", NODES)
def test_everything_is_explained(infos, name):
    info = infos[name]
    assert info["description"]
    assert info["category"] == "ELLA"
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    assert all(options["tooltip"] for _, options in inputs.values())
    assert all(info["output_tooltips"])


def test_defaults(infos):
    assert infos["ELLALLMTextEncode"]["input"]["optional"]["max_length"][1]["default"] == 0
    long_prompt = infos["ELLALLMTextEncode"]["input"]["optional"]["long_prompt"][1]
    assert (long_prompt["options"], long_prompt["default"]) == (["whole", "chunk"], "whole")
    dtype = infos["ELLALoadLLM"]["input"]["optional"]["dtype"][1]
    assert dtype["options"] == ["auto", "fp16", "bf16", "fp32", "fp8", "int8"]
    assert dtype["default"] == "auto"


def test_dropdowns_find_folders_gguf_files_and_extra_model_paths(infos):
    llms = infos["ELLALoadLLM"]["input"]["required"]["llm_name"][1]["options"]
    assert {T5, "llama-96", "an llm", "model.Q4_0.gguf"} <= set(llms)
    connectors = infos["ELLALoad"]["input"]["required"]["ella_name"][1]["options"]
    assert {"tsc.safetensors", "other.safetensors"} <= set(connectors)


LOAD = """
import asyncio, sys
import tiny_models
tiny_models.import_host()
import utils.extra_config  # as main.py does: later another utils would be found
import nodes, server
import comfy_api.latest, comfy_config.config_parser  # ComfyUI's own nodes and loader bring these
loop = asyncio.new_event_loop()
server.PromptServer(loop)
before = set(sys.modules)
assert loop.run_until_complete(nodes.load_custom_node(sys.argv[1]))
print(*set(sys.modules) - before, sep="\\n")
"""


def test_loading_the_pack_brings_nothing_but_its_small_modules():
    """No library, and nothing of ours that only a run needs: ComfyUI's start pays for it."""
    command = [sys.executable, "-c", LOAD, str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    new = {module for module in run.stdout.splitlines() if module.startswith(str(ROOT))}
    assert f"{ROOT}.nodes.loaders" in new
    others = {module.split(".")[0] for module in set(run.stdout.splitlines()) - new}
    assert others <= {"tomllib", "tomli"}  # ComfyUI reads pyproject.toml
    later = {"text_encoders", "connectors", "checkpoint", "training", "evaluation"}
    later |= {"comfy.llm.cache", "comfy.files.downloads"}
    for module in later:
        path = ROOT / "ella_core" / module.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), path
        assert f"{ROOT}.ella_core.{module}" not in new


PACK = """
class Node:
    FUNCTION, RETURN_TYPES, CATEGORY = "run", (), ""
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})

NODE_CLASS_MAPPINGS = {node_id: Node for node_id in NODE_IDS}
"""


def test_ids_that_another_pack_has_are_named_at_the_start(tmp_path):
    """One pack is loaded before this one, whose node goes, and one after it, whose node stays.

    Ids of deprecated nodes are not named: a pack that has them keeps them in any order.
    """
    shared = {"before": ["LLMModelLoader"], "after": [i for i in ADAPTER_PACK if i[0] != "L"]}
    others = {"before": ["ELLALoad", *shared["before"]]}
    others["after"] = ["ELLABlendEmbeds", *shared["after"]]
    sections = ""
    for name, node_ids in others.items():
        pack = tmp_path / name / f"loaded {name}"
        pack.mkdir(parents=True)
        (pack / "__init__.py").write_text(PACK.replace("NODE_IDS", repr(node_ids)))
        default = str(name == "before").lower()  # ComfyUI loads the default folder's packs first
        sections += f"{name}:\n  custom_nodes: '{pack.parent}'\n  is_default: {default}\n"
    (tmp_path / "paths.yaml").write_text(sections)
    arguments = ["--cpu", "--extra-model-paths-config", str(tmp_path / "paths.yaml")]
    with Server(tmp_path / "base", arguments) as server:
        infos, log = server.get("/object_info"), server.log_text()
    for node_id in ADAPTER_PACK:
        pack = next((f"loaded {when}" for when, ids in shared.items() if node_id in ids), PACK_NAME)
        assert infos[node_id]["python_module"] == f"custom_nodes.{pack}"
    assert infos["ELLALoad"]["python_module"] == "custom_nodes.ELLA-Nodes"
    assert infos["ELLABlendEmbeds"]["python_module"] == "custom_nodes.loaded after"
    same = "has nodes with the same ids as ELLA Nodes"
    assert f"loaded before {same}: ELLALoad. ComfyUI uses those of ELLA Nodes." in log
    assert f"loaded after {same}: ELLABlendEmbeds. ComfyUI uses those of loaded after." in log
    assert log.count(same) == 2
